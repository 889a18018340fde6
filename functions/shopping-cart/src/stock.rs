//! The stock of one item: what can be had, what is put aside for carts, what is sold.

use lambda_statefun::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    CART_FUNCTION, STOCK_FUNCTION,
    messages::{Reservation, StockMessage},
};

/// An item's stock. The three numbers always add up to what has come in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// Can be reserved.
    pub available: u64,
    /// Put aside for carts.
    pub reserved: u64,
    /// Sold.
    pub sold: u64,
}

impl Value for Shelf {
    const TYPE_NAME: TypeName = TypeName::from_static("shop/shelf");
    type Codec = Json;
}

/// The state of a stock.
pub const SHELF: ValueSpec<Shelf> = ValueSpec::new("shelf");

impl Shelf {
    /// Puts all of `quantity` aside, or nothing.
    fn reserve(&mut self, quantity: u64) -> bool {
        let Some(left) = self.available.checked_sub(quantity) else { return false };
        self.available = left;
        self.reserved += quantity;
        true
    }

    /// Takes `quantity` from what was put aside.
    fn take_back(&mut self, quantity: u64) -> Result<u64, FunctionError> {
        let left = self.reserved.checked_sub(quantity);
        self.reserved = left.ok_or_else(|| FunctionError::terminal("more than was reserved"))?;
        Ok(quantity)
    }
}

async fn handle(ctx: &mut Context, message: StockMessage) -> Result<(), FunctionError> {
    let mut shelf = ctx.get(&SHELF)?.unwrap_or_default();
    match message {
        StockMessage::Restock(message) => shelf.available += u64::from(message.quantity.get()),
        StockMessage::Reserve(message) => {
            let (cart, quantity) = (asking_cart(ctx)?, message.quantity);
            let granted = shelf.reserve(quantity);
            ctx.send(cart, &Reservation { quantity, granted })?;
        }
        StockMessage::Release(message) => {
            asking_cart(ctx)?;
            shelf.available += shelf.take_back(message.quantity)?;
        }
        StockMessage::Confirm(message) => {
            asking_cart(ctx)?;
            shelf.sold += shelf.take_back(message.quantity)?;
        }
    }
    ctx.set(&SHELF, shelf)?;
    Ok(())
}

/// The cart that sent the message. Nobody else may touch what is put aside: it is some cart's.
fn asking_cart(ctx: &Context) -> Result<Address, FunctionError> {
    ctx.caller()
        .filter(|caller| caller.function().as_str() == CART_FUNCTION)
        .ok_or_else(|| FunctionError::terminal("only a cart may reserve, release and confirm"))
}

/// The function `shop/stock`.
#[must_use]
pub fn stock() -> Function {
    Function::new(STOCK_FUNCTION, handle).state(&SHELF)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::messages::{Confirm, Release, Reserve, Restock};

    fn books(quantity: u32) -> TestContext {
        let mut books = TestContext::new(stock(), "book");
        books.invoke(&Restock { quantity: NonZeroU32::new(quantity).unwrap() }).unwrap();
        books.set_caller((CART_FUNCTION, "ann")).unwrap();
        books
    }

    #[test]
    fn answers_the_cart_that_asks() {
        let mut books = books(3);
        let effects = books.invoke(&Reserve { quantity: 2 }).unwrap();
        assert_eq!(effects.sent_to::<Reservation>((CART_FUNCTION, "ann")), [Reservation { quantity: 2, granted: true }]);
        books.set_caller((CART_FUNCTION, "bob")).unwrap();
        let effects = books.invoke(&Reserve { quantity: 2 }).unwrap();
        assert_eq!(effects.sent_to::<Reservation>((CART_FUNCTION, "bob")), [Reservation { quantity: 2, granted: false }]);
        assert_eq!(books.get(&SHELF), Some(Shelf { available: 1, reserved: 2, sold: 0 }));
    }

    #[test]
    fn what_was_reserved_is_released_or_sold() {
        let mut books = books(3);
        books.invoke(&Reserve { quantity: 3 }).unwrap();
        books.invoke(&Release { quantity: 1 }).unwrap();
        books.invoke(&Confirm { quantity: 2 }).unwrap();
        assert_eq!(books.get(&SHELF), Some(Shelf { available: 1, reserved: 0, sold: 2 }));
    }

    #[test]
    fn nobody_takes_more_than_was_reserved() {
        let mut books = books(3);
        assert!(books.invoke(&Release { quantity: 1 }).unwrap_err().is_terminal());
        assert!(books.invoke(&Confirm { quantity: 1 }).unwrap_err().is_terminal());
        assert_eq!(books.get(&SHELF), Some(Shelf { available: 3, ..Shelf::default() }));
    }

    #[test]
    fn only_carts_reserve() {
        let mut books = TestContext::new(stock(), "book");
        assert!(books.invoke(&Reserve { quantity: 1 }).unwrap_err().is_terminal());
        assert_eq!(books.get(&SHELF), None);
    }
}
