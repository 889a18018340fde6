//! From an author's `async fn` to what the engine calls.

use std::{
    future::{Future, Pending, pending},
    marker::PhantomData,
};

use async_trait::async_trait;
use statefun_core::{Context, FromMessage, FunctionError, TypedValue};
use statefun_engine::Invoke;

/// A handler: an `async fn(&mut Context, M) -> Result<(), FunctionError>`, for a message `M` that implements [`FromMessage`].
///
/// Every such function implements it, and nothing else does. [`Function::new`](crate::Function::new) also asks that the future
/// is `Send`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not an `async fn(&mut Context, M) -> Result<(), FunctionError>`",
    note = "write `async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>`: async, the context as `&mut`, one \
            message, and this return type",
    note = "a handler that needs clients, such as a database pool, does not capture them: give them to `Function::with_clients`"
)]
pub trait Handler<'a, M: ?Sized> {
    /// What the function returns.
    type Future: Future<Output = Result<(), FunctionError>> + 'a;

    /// Handles one message.
    fn call(&self, context: &'a mut Context, message: M) -> Self::Future
    where
        M: Sized;
}

#[diagnostic::do_not_recommend]
impl<'a, M, F, R> Handler<'a, M> for F
where
    F: Fn(&'a mut Context, M) -> R,
    R: Future<Output = Result<(), FunctionError>> + 'a,
{
    type Future = R;

    fn call(&self, context: &'a mut Context, message: M) -> R {
        self(context, message)
    }
}

/// No function is its own argument, so this applies to none. It is here for the compiler's messages: where only one
/// implementation can be meant, rustc reports which of its bounds fails; where two can, that this trait is not implemented, with
/// the advice above. That `[F]` has no size keeps the two apart.
#[diagnostic::do_not_recommend]
impl<'a, F: Fn(F)> Handler<'a, [F]> for F {
    type Future = Pending<Result<(), FunctionError>>;

    fn call(&self, _: &'a mut Context, _: [F]) -> Self::Future
    where
        [F]: Sized,
    {
        pending()
    }
}

/// A [`Handler`] that takes its clients first: an `async fn(&C, &mut Context, M) -> Result<(), FunctionError>`, for
/// [`Function::with_clients`](crate::Function::with_clients).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler with clients of type `{C}`",
    label = "not an `async fn(&{C}, &mut Context, M) -> Result<(), FunctionError>`",
    note = "write `async fn name(clients: &{C}, ctx: &mut Context, message: M) -> Result<(), FunctionError>`: async, the clients by \
            reference, the context as `&mut`, one message, and this return type"
)]
pub trait HandlerWithClients<'a, C, M: ?Sized> {
    /// What the function returns.
    type Future: Future<Output = Result<(), FunctionError>> + 'a;

    /// Handles one message.
    fn call(&self, clients: &'a C, context: &'a mut Context, message: M) -> Self::Future
    where
        M: Sized;
}

#[diagnostic::do_not_recommend]
impl<'a, C: 'a, M, F, R> HandlerWithClients<'a, C, M> for F
where
    F: Fn(&'a C, &'a mut Context, M) -> R,
    R: Future<Output = Result<(), FunctionError>> + 'a,
{
    type Future = R;

    fn call(&self, clients: &'a C, context: &'a mut Context, message: M) -> R {
        self(clients, context, message)
    }
}

/// As for [`Handler`].
#[diagnostic::do_not_recommend]
impl<'a, C, F: Fn(F)> HandlerWithClients<'a, C, [F]> for F {
    type Future = Pending<Result<(), FunctionError>>;

    fn call(&self, _: &'a C, _: &'a mut Context, _: [F]) -> Self::Future
    where
        [F]: Sized,
    {
        pending()
    }
}

/// A handler with its message type put away.
pub(crate) struct Erased<H, M> {
    handler: H,
    message: PhantomData<fn(M)>,
}

impl<H, M> Erased<H, M> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, message: PhantomData }
    }
}

#[async_trait]
impl<M, H> Invoke for Erased<H, M>
where
    M: FromMessage + Send,
    H: for<'a> Handler<'a, M> + Send + Sync,
    for<'a> <H as Handler<'a, M>>::Future: Send,
{
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
        let message = M::from_message(message)?;
        self.handler.call(context, message).await
    }
}

/// A handler with clients, with its types put away.
pub(crate) struct ErasedWithClients<C, H, M> {
    clients: C,
    handler: H,
    message: PhantomData<fn(M)>,
}

impl<C, H, M> ErasedWithClients<C, H, M> {
    pub(crate) fn new(clients: C, handler: H) -> Self {
        Self { clients, handler, message: PhantomData }
    }
}

#[async_trait]
impl<C, M, H> Invoke for ErasedWithClients<C, H, M>
where
    C: Send + Sync,
    M: FromMessage + Send,
    H: for<'a> HandlerWithClients<'a, C, M> + Send + Sync,
    for<'a> <H as HandlerWithClients<'a, C, M>>::Future: Send,
{
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
        let message = M::from_message(message)?;
        self.handler.call(&self.clients, context, message).await
    }
}
