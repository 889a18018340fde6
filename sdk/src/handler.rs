//! From an author's `async fn` to what the engine calls.

use std::{future::Future, marker::PhantomData};

use async_trait::async_trait;
use statefun_core::{Context, FromMessage, FunctionError, TypedValue};
use statefun_engine::Invoke;

/// A handler: an `async fn(&mut Context, M) -> Result<(), FunctionError>` whose future is `Send`, for a message `M` that
/// implements [`FromMessage`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of `{M}`",
    label = "not an `async fn(&mut Context, M) -> Result<(), FunctionError>`",
    note = "write `async fn name(ctx: &mut Context, message: M) -> Result<(), FunctionError>`; what it holds across an `.await` \
            must be `Send`, and `M` must implement `Value` or `FromMessage`"
)]
pub trait Handler<M>: Send + Sync + 'static {
    /// Handles one message.
    fn call(&self, context: &mut Context, message: M) -> impl Future<Output = Result<(), FunctionError>> + Send;
}

/// A function from a borrowed context to a future that borrows it: what `Fn` alone cannot say for every lifetime.
pub trait Borrowing<'a, M>: Fn(&'a mut Context, M) -> Self::Future {
    /// What the function returns.
    type Future: Future<Output = Result<(), FunctionError>> + Send + 'a;
}

impl<'a, M, F, R> Borrowing<'a, M> for F
where
    F: Fn(&'a mut Context, M) -> R,
    R: Future<Output = Result<(), FunctionError>> + Send + 'a,
{
    type Future = R;
}

impl<M, F> Handler<M> for F
where
    F: for<'a> Borrowing<'a, M> + Send + Sync + 'static,
    M: Send,
{
    fn call(&self, context: &mut Context, message: M) -> impl Future<Output = Result<(), FunctionError>> + Send {
        self(context, message)
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
impl<M: FromMessage + Send, H: Handler<M>> Invoke for Erased<H, M> {
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
        let message = M::from_message(message)?;
        self.handler.call(context, message).await
    }
}
