use std::num::NonZeroU32;

use lambda_statefun::Effects;

use super::*;
use crate::messages::{Checkout, RemoveFromCart};

const BOOK: (&str, &str) = (STOCK_FUNCTION, "book");

/// Ann's cart, and the answers of the stock of books.
struct Ann(TestContext);

impl Ann {
    fn new() -> Self {
        let mut cart = TestContext::new(cart(), "ann");
        cart.set_caller(BOOK).unwrap();
        Self(cart)
    }

    fn add(&mut self, item: &str, quantity: u32) -> Effects {
        let quantity = NonZeroU32::new(quantity).unwrap();
        self.0.invoke(&AddToCart { item: item.to_owned(), quantity }).unwrap()
    }

    fn answer(&mut self, quantity: u64, granted: bool) -> Effects {
        self.0.invoke(&Reservation { quantity, granted }).unwrap()
    }

    fn line(&self, item: &str) -> Line {
        self.0.get(&CART).unwrap_or_default().lines.remove(item).unwrap_or_default()
    }
}

fn receipts(effects: &Effects) -> Vec<Receipt> {
    effects.egress_of(RECEIPTS)
}

fn bought(quantity: u64) -> Receipt {
    Receipt { user: "ann".to_owned(), items: BTreeMap::from([("book".to_owned(), quantity)]) }
}

#[test]
fn asks_the_stock_and_holds_what_it_grants() {
    let mut ann = Ann::new();
    assert_eq!(ann.add("book", 2).sent_to::<Reserve>(BOOK), [Reserve { quantity: 2 }]);
    assert_eq!(ann.line("book"), Line { awaited: 1, ..Line::default() });
    let effects = ann.answer(2, true);
    assert_eq!(ann.line("book"), Line { reserved: 2, ..Line::default() });
    assert_eq!((effects.delayed[0].delay, effects.delayed[0].token.as_deref()), (HOLD, Some(TOKEN)));
}

#[test]
fn what_is_refused_leaves_no_trace() {
    let mut ann = Ann::new();
    ann.add("book", 2);
    assert!(ann.answer(2, false).is_empty());
    assert_eq!(ann.0.get(&CART), None);
}

#[test]
fn a_checkout_buys_and_cancels_the_hold() {
    let mut ann = Ann::new();
    ann.add("book", 2);
    ann.answer(2, true);
    let effects = ann.0.invoke(&Checkout {}).unwrap();
    assert_eq!(effects.sent_to::<Confirm>(BOOK), [Confirm { quantity: 2 }]);
    assert_eq!(receipts(&effects), [bought(2)]);
    assert_eq!(effects.cancelled, [TOKEN]);
    assert_eq!(ann.0.get(&CART), None);
}

#[test]
fn a_checkout_waits_for_the_answers() {
    let mut ann = Ann::new();
    ann.add("book", 2);
    assert!(ann.0.invoke(&Checkout {}).unwrap().is_empty());
    let effects = ann.answer(2, true);
    assert_eq!(receipts(&effects), [bought(2)]);
    assert!(effects.delayed.is_empty());
}

#[test]
fn the_hold_ends_and_gives_back() {
    let mut ann = Ann::new();
    ann.add("book", 2);
    ann.answer(2, true);
    ann.0.advance(HOLD);
    let effects = ann.0.invoke(&HoldExpired { hold: 1 }).unwrap();
    assert_eq!(effects.sent_to::<Release>(BOOK), [Release { quantity: 2 }]);
    assert_eq!(ann.0.get(&CART), None);
}

#[test]
fn another_item_renews_the_hold() {
    let mut ann = Ann::new();
    ann.add("book", 2);
    ann.answer(2, true);
    ann.add("book", 1);
    let effects = ann.answer(1, true);
    assert_eq!((effects.cancelled.as_slice(), effects.delayed.len()), ([TOKEN.to_owned()].as_slice(), 1));
    assert!(ann.0.invoke(&HoldExpired { hold: 1 }).unwrap().is_empty());
    assert_eq!(ann.line("book").reserved, 3);
}

/// The message that ends the hold was due before the checkout, so it could not be cancelled; it arrives after it.
#[test]
fn a_hold_that_ends_too_late_takes_nothing() {
    let mut ann = Ann::new();
    ann.add("book", 2);
    ann.answer(2, true);
    ann.0.advance(HOLD);
    let effects = ann.0.invoke(&Checkout {}).unwrap();
    assert_eq!(receipts(&effects), [bought(2)]);
    ann.add("book", 1);
    ann.answer(1, true);
    assert!(ann.0.invoke(&HoldExpired { hold: 1 }).unwrap().is_empty());
    assert_eq!(ann.line("book").reserved, 1);
}

#[test]
fn what_is_removed_is_given_back_also_if_it_is_granted_later() {
    let mut ann = Ann::new();
    ann.add("book", 2);
    ann.answer(2, true);
    ann.add("book", 3);
    let effects = ann.0.invoke(&RemoveFromCart { item: "book".to_owned() }).unwrap();
    assert_eq!(effects.sent_to::<Release>(BOOK), [Release { quantity: 2 }]);
    ann.add("book", 4);
    assert_eq!(ann.answer(3, true).sent_to::<Release>(BOOK), [Release { quantity: 3 }]);
    ann.answer(4, true);
    assert_eq!(ann.line("book"), Line { reserved: 4, ..Line::default() });
}

#[test]
fn an_empty_checkout_gets_an_empty_receipt() {
    let effects = Ann::new().0.invoke(&Checkout {}).unwrap();
    assert_eq!(receipts(&effects), [Receipt { user: "ann".to_owned(), items: BTreeMap::new() }]);
}

#[test]
fn a_cart_has_room_for_so_many_items() {
    let mut ann = Ann::new();
    for item in 0..MAX_ITEMS {
        ann.add(&format!("item {item}"), 1);
    }
    let one_more = AddToCart { item: "one more".to_owned(), quantity: NonZeroU32::MIN };
    assert!(ann.0.invoke(&one_more).unwrap_err().is_terminal());
    ann.add("item 0", 1);
}

#[test]
fn only_a_stock_that_was_asked_may_answer() {
    let mut ann = Ann::new();
    assert!(ann.0.invoke(&Reservation { quantity: 1, granted: true }).unwrap_err().is_terminal());
    ann.0.set_caller((CART_FUNCTION, "bob")).unwrap();
    ann.add("book", 1);
    assert!(ann.0.invoke(&Reservation { quantity: 1, granted: true }).unwrap_err().is_terminal());
}
