//! What stocks and carts are sent, and what they send each other. All of it is JSON.

use std::{collections::BTreeMap, num::NonZeroU32};

use lambda_statefun::{ContextError, prelude::*};
use serde::{Deserialize, Serialize};

/// Messages of one name each, as JSON.
macro_rules! json_values {
    ($($type:ty => $name:literal),* $(,)?) => {
        $(impl Value for $type {
            const TYPE_NAME: TypeName = TypeName::from_static($name);
            type Codec = Json;
        })*
    };
}

json_values! {
    Restock => "shop/restock",
    Reserve => "shop/reserve",
    Release => "shop/release",
    Confirm => "shop/confirm",
    AddToCart => "shop/add-to-cart",
    RemoveFromCart => "shop/remove-from-cart",
    Checkout => "shop/checkout",
    Reservation => "shop/reservation",
    HoldExpired => "shop/hold-expired",
    Receipt => "shop/receipt",
}

/// To a stock, from outside: more of the item has come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restock {
    /// How much more.
    pub quantity: NonZeroU32,
}

/// From a cart to a stock: put this much aside for me. It is answered with a [`Reservation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// How much.
    pub quantity: u64,
}

/// From a cart to a stock: I do not need this much of what you put aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// How much.
    pub quantity: u64,
}

/// From a cart to a stock: this much of what you put aside is sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// How much.
    pub quantity: u64,
}

/// To a cart, from outside: the user wants this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddToCart {
    /// Which item.
    pub item: String,
    /// How much of it.
    pub quantity: NonZeroU32,
}

/// To a cart, from outside: the user does not want this any more, however much of it there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveFromCart {
    /// Which item.
    pub item: String,
}

/// To a cart, from outside: the user buys what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {}

/// From a stock to a cart: the answer to a [`Reserve`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// How much was asked for.
    pub quantity: u64,
    /// Whether all of it was put aside; if not, none of it was.
    pub granted: bool,
}

/// From a cart to itself, later: the goods were held long enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldExpired {
    /// Which hold this is the end of. A newer one has a higher number.
    pub hold: u64,
}

/// To the egress: what a checkout bought, possibly nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The buyer.
    pub user: String,
    /// How much of which item.
    pub items: BTreeMap<String, u64>,
}

/// What a stock takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockMessage {
    /// More came in.
    Restock(Restock),
    /// A cart wants some.
    Reserve(Reserve),
    /// A cart gives some back.
    Release(Release),
    /// A cart has sold some.
    Confirm(Confirm),
}

impl FromMessage for StockMessage {
    fn accepts() -> Vec<Accepted> {
        vec![Accepted::of::<Restock>(), Accepted::of::<Reserve>(), Accepted::of::<Release>(), Accepted::of::<Confirm>()]
    }

    fn from_message(message: &TypedValue) -> Result<Self, ContextError> {
        MatchType::new(message).case(Self::Restock)?.case(Self::Reserve)?.case(Self::Release)?.case(Self::Confirm)?.finish()
    }
}

/// What a cart takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CartMessage {
    /// The user wants something.
    Add(AddToCart),
    /// The user does not want something any more.
    Remove(RemoveFromCart),
    /// The user buys.
    Checkout(Checkout),
    /// A stock answers.
    Reservation(Reservation),
    /// The goods were held long enough.
    HoldExpired(HoldExpired),
}

impl FromMessage for CartMessage {
    fn accepts() -> Vec<Accepted> {
        vec![
            Accepted::of::<AddToCart>(),
            Accepted::of::<RemoveFromCart>(),
            Accepted::of::<Checkout>(),
            Accepted::of::<Reservation>(),
            Accepted::of::<HoldExpired>(),
        ]
    }

    fn from_message(message: &TypedValue) -> Result<Self, ContextError> {
        MatchType::new(message)
            .case(Self::Add)?
            .case(Self::Remove)?
            .case(Self::Checkout)?
            .case(Self::Reservation)?
            .case(Self::HoldExpired)?
            .finish()
    }
}
