//! A shop in the test: instances, the queues between them, the timers, and what has come out.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    time::Duration,
};

use lambda_statefun::{Address, Delayed, Effects, TestContext, ToAddress, TypedValue, Value};
use shopping_cart::{
    AddToCart, CART, CART_FUNCTION, Checkout, RECEIPTS, Receipt, RemoveFromCart, Restock, SHELF, STOCK_FUNCTION, Shelf, cart,
    stock,
};
use tokio::runtime::{Builder, Runtime};

pub(crate) const ITEMS: [&str; 2] = ["book", "lamp"];
pub(crate) const USERS: [&str; 3] = ["ann", "bob", "eve"];

/// Sender (none for the outside world) and receiver.
type Lane = (Option<Address>, Address);

/// A delayed message, with the moment it is due.
struct Timer {
    from: Address,
    due: Duration,
    delayed: Delayed,
}

pub(crate) struct Shop {
    runtime: Runtime,
    instances: BTreeMap<Address, TestContext>,
    lanes: BTreeMap<Lane, VecDeque<TypedValue>>,
    timers: Vec<Timer>,
    now: Duration,
    receipts: Vec<Receipt>,
    restocked: BTreeMap<&'static str, u64>,
}

impl Shop {
    pub(crate) fn new() -> Self {
        let stocks = ITEMS.map(|item| (address(STOCK_FUNCTION, item), TestContext::new(stock(), item)));
        let carts = USERS.map(|user| (address(CART_FUNCTION, user), TestContext::new(cart(), user)));
        Self {
            runtime: Builder::new_current_thread().build().unwrap(),
            instances: stocks.into_iter().chain(carts).collect(),
            lanes: BTreeMap::new(),
            timers: Vec::new(),
            now: Duration::ZERO,
            receipts: Vec::new(),
            restocked: BTreeMap::new(),
        }
    }

    /// A stock learns of new goods at once, so that what has come in is known exactly.
    pub(crate) fn restock(&mut self, item: usize, quantity: u32) {
        let message = Restock { quantity: NonZeroU32::new(quantity).unwrap() };
        *self.restocked.entry(ITEMS[item]).or_default() += u64::from(quantity);
        self.run(None, &address(STOCK_FUNCTION, ITEMS[item]), TypedValue::of(&message).unwrap());
    }

    pub(crate) fn add(&mut self, user: usize, item: usize, quantity: u32) {
        let quantity = NonZeroU32::new(quantity).unwrap();
        self.tell(user, &AddToCart { item: ITEMS[item].to_owned(), quantity });
    }

    pub(crate) fn remove(&mut self, user: usize, item: usize) {
        self.tell(user, &RemoveFromCart { item: ITEMS[item].to_owned() });
    }

    pub(crate) fn checkout(&mut self, user: usize) {
        self.tell(user, &Checkout {});
    }

    /// One of the waiting lanes delivers its first message.
    pub(crate) fn deliver(&mut self, choice: usize) {
        if self.lanes.is_empty() {
            return;
        }
        let lane = self.lanes.keys().nth(choice % self.lanes.len()).unwrap().clone();
        let waiting = self.lanes.get_mut(&lane).unwrap();
        let value = waiting.pop_front().unwrap();
        if waiting.is_empty() {
            self.lanes.remove(&lane);
        }
        self.run(lane.0.as_ref(), &lane.1, value);
    }

    /// Time passes; what becomes due is on its way then, and cannot be cancelled any more.
    pub(crate) fn advance(&mut self, minutes: u64) {
        let by = Duration::from_secs(minutes * 60);
        self.now += by;
        self.instances.values_mut().for_each(|instance| instance.advance(by));
        let (due, waiting) = std::mem::take(&mut self.timers).into_iter().partition(|timer| timer.due <= self.now);
        self.timers = waiting;
        for Timer { from, delayed, .. } in due {
            self.lanes.entry((Some(from), delayed.to)).or_default().push_back(delayed.value);
        }
    }

    /// Everything that is on its way arrives.
    pub(crate) fn settle(&mut self) {
        while !self.lanes.is_empty() {
            self.deliver(self.lanes.len() / 2);
        }
    }

    pub(crate) fn shelf(&self, item: &str) -> Shelf {
        self.instances[&address(STOCK_FUNCTION, item)].get(&SHELF).unwrap_or_default()
    }

    pub(crate) fn in_carts(&self, item: &str) -> u64 {
        let carts = USERS.iter().filter_map(|user| self.instances[&address(CART_FUNCTION, user)].get(&CART));
        carts.filter_map(|cart| cart.lines.get(item).map(|line| line.reserved)).sum()
    }

    pub(crate) fn restocked(&self, item: &str) -> u64 {
        self.restocked.get(item).copied().unwrap_or_default()
    }

    pub(crate) fn bought(&self, item: &str) -> u64 {
        self.receipts.iter().filter_map(|receipt| receipt.items.get(item)).sum()
    }

    /// Whether every cart is as if it had never been used: no answer is awaited, no checkout hangs.
    pub(crate) fn carts_are_empty(&self) -> bool {
        USERS.iter().all(|user| self.instances[&address(CART_FUNCTION, user)].get(&CART).is_none())
    }

    fn tell<T: Value>(&mut self, user: usize, message: &T) {
        let lane = (None, address(CART_FUNCTION, USERS[user]));
        self.lanes.entry(lane).or_default().push_back(TypedValue::of(message).unwrap());
    }

    fn run(&mut self, from: Option<&Address>, to: &Address, value: TypedValue) {
        let instance = self.instances.get_mut(to).unwrap();
        if let Some(from) = from {
            instance.set_caller(from).unwrap();
        }
        let effects = self.runtime.block_on(instance.invoke_value(value)).unwrap();
        self.apply(to, effects);
    }

    fn apply(&mut self, from: &Address, effects: Effects) {
        self.receipts.extend(effects.egress_of::<Receipt>(RECEIPTS));
        self.timers.retain(|timer| timer.from != *from || !effects.cancelled.contains(timer.delayed.token.as_ref().unwrap()));
        let due = |delay| self.now + delay;
        let timers = effects.delayed.into_iter().map(|delayed| Timer { from: from.clone(), due: due(delayed.delay), delayed });
        self.timers.extend(timers.collect::<Vec<_>>());
        for (to, value) in effects.sent {
            self.lanes.entry((Some(from.clone()), to)).or_default().push_back(value);
        }
    }
}

fn address(function: &str, id: &str) -> Address {
    (function, id).to_address().unwrap()
}
