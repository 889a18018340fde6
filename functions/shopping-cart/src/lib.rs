//! A shop: every item has a stock (`shop/stock`, id = item), every user a cart (`shop/cart`, id = user).
//!
//! ```text
//!  add-to-cart ──► cart ── reserve ──────────► stock ◄── restock
//!                  cart ◄── reservation ────── stock
//!  checkout ─────► cart ── confirm ──────────► stock
//!                  cart ── receipt ──► shop/receipts
//!  15 min later:   cart ── release ──────────► stock
//! ```
//!
//! Goods that a cart was granted belong to that cart alone until it confirms or releases them. So the cart can decide on its
//! own, in one step, whether a checkout or the end of the hold came first: nothing is sold twice, and nothing is lost.

mod cart;
mod messages;
mod stock;

pub use cart::{CART, Cart, HOLD, HOLDS, Line, MAX_ITEMS, cart};
pub use messages::{
    AddToCart, CartMessage, Checkout, Confirm, HoldExpired, Receipt, Release, RemoveFromCart, Reservation, Reserve, Restock,
    StockMessage,
};
pub use stock::{SHELF, Shelf, stock};

use lambda_statefun::Application;

/// The function that keeps the stock of an item.
pub const STOCK_FUNCTION: &str = "shop/stock";

/// The function that keeps a user's cart.
pub const CART_FUNCTION: &str = "shop/cart";

/// Where receipts go.
pub const RECEIPTS: &str = "shop/receipts";

/// Everything that is deployed together.
#[must_use]
pub fn application() -> Application {
    Application::new().function(stock()).function(cart())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_application_builds() {
        super::application().build().unwrap();
    }
}
