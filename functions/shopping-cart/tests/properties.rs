//! Whatever happens in whatever order: nothing is sold twice, and nothing is lost.
//!
//! Stocks and carts are wired together by queues, one per sender and receiver. Which queue delivers next is drawn at random,
//! and so is when delayed messages become due and when they arrive.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod shop;

use proptest::prelude::*;
use shop::{ITEMS, Shop, USERS};

/// What users, the warehouse and time do.
#[derive(Debug, Clone)]
enum Step {
    Restock {
        item: usize,
        quantity: u32,
    },
    Add {
        user: usize,
        item: usize,
        quantity: u32,
    },
    Remove {
        user: usize,
        item: usize,
    },
    Checkout {
        user: usize,
    },
    /// One of the waiting queues delivers one message.
    Deliver {
        choice: usize,
    },
    /// Time passes.
    Advance {
        minutes: u64,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let (item, user) = (0..ITEMS.len(), 0..USERS.len());
    prop_oneof![
        2 => (item.clone(), 1..6_u32).prop_map(|(item, quantity)| Step::Restock { item, quantity }),
        4 => (user.clone(), item.clone(), 1..4_u32).prop_map(|(user, item, quantity)| Step::Add { user, item, quantity }),
        1 => (user.clone(), item).prop_map(|(user, item)| Step::Remove { user, item }),
        2 => user.prop_map(|user| Step::Checkout { user }),
        12 => any::<usize>().prop_map(|choice| Step::Deliver { choice }),
        1 => (1..20_u64).prop_map(|minutes| Step::Advance { minutes }),
    ]
}

fn take(shop: &mut Shop, step: &Step) {
    match *step {
        Step::Restock { item, quantity } => shop.restock(item, quantity),
        Step::Add { user, item, quantity } => shop.add(user, item, quantity),
        Step::Remove { user, item } => shop.remove(user, item),
        Step::Checkout { user } => shop.checkout(user),
        Step::Deliver { choice } => shop.deliver(choice),
        Step::Advance { minutes } => shop.advance(minutes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_oversold_and_nothing_is_lost(steps in prop::collection::vec(steps(), 1..150)) {
        let mut shop = Shop::new();
        for step in &steps {
            take(&mut shop, step);
            for item in ITEMS {
                // `reserve` never goes below zero: a stock cannot give what it has not got.
                let shelf = shop.shelf(item);
                prop_assert_eq!(shelf.available + shelf.reserved + shelf.sold, shop.restocked(item));
            }
        }
        shop.settle();
        for item in ITEMS {
            prop_assert_eq!(shop.shelf(item).reserved, shop.in_carts(item));
            prop_assert_eq!(shop.shelf(item).sold, shop.bought(item));
        }
        shop.advance(15);
        shop.settle();
        for item in ITEMS {
            prop_assert_eq!(shop.shelf(item).available + shop.bought(item), shop.restocked(item));
        }
        prop_assert!(shop.carts_are_empty());
    }
}
