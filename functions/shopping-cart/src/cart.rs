//! The cart of one user. What it was granted is its own until it confirms or releases it.

use std::{collections::BTreeMap, time::Duration};

use lambda_statefun::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    CART_FUNCTION, RECEIPTS, STOCK_FUNCTION,
    messages::{AddToCart, CartMessage, Confirm, HoldExpired, Receipt, Release, Reservation, Reserve},
};

/// How long the goods of a cart are held after the last one came in.
pub const HOLD: Duration = Duration::from_secs(15 * 60);

/// Different items in one cart. It keeps a cart's state, and what a checkout sends, small.
pub const MAX_ITEMS: usize = 100;

/// The cancellation token of the hold's end: there is one hold at a time.
const TOKEN: &str = "hold";

/// What is in a cart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    /// By item.
    pub lines: BTreeMap<String, Line>,
    /// The user has asked to buy; it happens when no answer is awaited any more.
    pub checking_out: bool,
}

/// One item in a cart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What the stock has put aside for this cart.
    pub reserved: u64,
    /// Answers the stock still owes.
    pub awaited: u32,
    /// How many of the next answers are for something the user has removed since. Answers come in the order of the questions.
    pub unwanted: u32,
}

impl Value for Cart {
    const TYPE_NAME: TypeName = TypeName::from_static("shop/cart-content");
    type Codec = Json;
}

/// The cart's content; absent while it is empty.
pub const CART: ValueSpec<Cart> = ValueSpec::new("cart");

/// How many holds there have been: the number of the newest one.
pub const HOLDS: ValueSpec<u64> = ValueSpec::new("holds");

async fn handle(ctx: &mut Context, message: CartMessage) -> Result<(), FunctionError> {
    let mut cart = ctx.get(&CART)?.unwrap_or_default();
    match message {
        CartMessage::Add(message) => add(ctx, &mut cart, message)?,
        CartMessage::Remove(message) => remove(ctx, &mut cart, &message.item)?,
        CartMessage::Reservation(message) => take_answer(ctx, &mut cart, &message)?,
        CartMessage::HoldExpired(message) => expire(ctx, &mut cart, &message)?,
        CartMessage::Checkout(_) => {
            ctx.cancel(TOKEN)?;
            cart.checking_out = true;
        }
    }
    cart.lines.retain(|_, line| *line != Line::default());
    if cart.checking_out && cart.lines.values().all(|line| line.awaited == 0) {
        buy(ctx, std::mem::take(&mut cart))?;
    }
    if cart == Cart::default() {
        ctx.remove(&CART)?
    } else {
        ctx.set(&CART, cart)?
    }
    Ok(())
}

/// Asks the stock; its answer comes as a message of its own.
fn add(ctx: &mut Context, cart: &mut Cart, AddToCart { item, quantity }: AddToCart) -> Result<(), FunctionError> {
    if cart.lines.len() >= MAX_ITEMS && !cart.lines.contains_key(&item) {
        return Err(FunctionError::terminal(format!("a cart holds {MAX_ITEMS} different items at most")));
    }
    ctx.send((STOCK_FUNCTION, &item), &Reserve { quantity: quantity.get().into() })?;
    cart.lines.entry(item).or_default().awaited += 1;
    Ok(())
}

fn remove(ctx: &mut Context, cart: &mut Cart, item: &str) -> Result<(), FunctionError> {
    let Some(line) = cart.lines.get_mut(item) else { return Ok(()) };
    line.unwanted = line.awaited;
    release(ctx, item, std::mem::take(&mut line.reserved))
}

/// The stock has answered: the goods are in the cart, unless there are none or the user has removed them meanwhile.
fn take_answer(ctx: &mut Context, cart: &mut Cart, answer: &Reservation) -> Result<(), FunctionError> {
    let stock = ctx.caller().filter(|caller| caller.function().as_str() == STOCK_FUNCTION);
    let stock = stock.ok_or_else(|| FunctionError::terminal("only a stock grants reservations"))?;
    let line = cart.lines.get_mut(stock.id()).filter(|line| line.awaited > 0);
    let line = line.ok_or_else(|| FunctionError::terminal("an answer that was not asked for"))?;
    line.awaited -= 1;
    let unwanted = line.unwanted > 0;
    line.unwanted = line.unwanted.saturating_sub(1);
    match (answer.granted, unwanted) {
        (false, _) => Ok(()),
        (true, true) => release(ctx, stock.id(), answer.quantity),
        (true, false) => {
            line.reserved += answer.quantity;
            if cart.checking_out { Ok(()) } else { hold(ctx) }
        }
    }
}

/// Holds everything in the cart from now on. The message that ends the hold can be cancelled until it is due; one that was due
/// already but has not arrived is known by its number.
fn hold(ctx: &mut Context) -> Result<(), FunctionError> {
    let hold = ctx.get(&HOLDS)?.unwrap_or(0) + 1;
    ctx.set(&HOLDS, hold)?;
    ctx.cancel(TOKEN)?;
    ctx.send_after(HOLD, ctx.address(), &HoldExpired { hold }, TOKEN)?;
    Ok(())
}

/// Gives everything back, unless there is a newer hold or the user is buying.
fn expire(ctx: &mut Context, cart: &mut Cart, expired: &HoldExpired) -> Result<(), FunctionError> {
    if cart.checking_out || ctx.get(&HOLDS)? != Some(expired.hold) {
        return Ok(());
    }
    for (item, line) in &mut cart.lines {
        release(ctx, item, std::mem::take(&mut line.reserved))?;
    }
    Ok(())
}

fn release(ctx: &mut Context, item: &str, quantity: u64) -> Result<(), FunctionError> {
    if quantity > 0 {
        ctx.send((STOCK_FUNCTION, item), &Release { quantity })?;
    }
    Ok(())
}

/// Everything the cart holds is sold: the stocks are informed, and the user gets a receipt.
fn buy(ctx: &mut Context, cart: Cart) -> Result<(), FunctionError> {
    let items: BTreeMap<_, _> = cart.lines.into_iter().map(|(item, line)| (item, line.reserved)).collect();
    for (item, quantity) in &items {
        ctx.send((STOCK_FUNCTION, item), &Confirm { quantity: *quantity })?;
    }
    ctx.egress(RECEIPTS, &Receipt { user: ctx.address().id().to_owned(), items })?;
    Ok(())
}

/// The function `shop/cart`.
#[must_use]
pub fn cart() -> Function {
    Function::new(CART_FUNCTION, handle).state(&CART).state(&HOLDS)
}

#[cfg(test)]
mod tests;
