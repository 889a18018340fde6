//! What is shown, one scenario after the other, each with a stack and an account of its own.

mod conformance;
mod failures;
mod flights;
mod greeter;
mod outages;
mod shop;
pub(crate) mod upgrade;

use std::{future::Future, pin::Pin};

use crate::{problem::Result, world::Setting};

type Running<'a> = Pin<Box<dyn Future<Output = Result<String>> + 'a>>;

/// A scenario: its name, and what it does. It returns what it has shown.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Setting, &'a str) -> Running<'a>,
}

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "conformance", run: |setting, account| Box::pin(conformance::run(setting, account)) },
    Scenario { name: "greeter", run: |setting, account| Box::pin(greeter::run(setting, account)) },
    Scenario { name: "unread-records", run: |setting, account| Box::pin(greeter::unread(setting, account)) },
    Scenario { name: "shopping-cart", run: |setting, account| Box::pin(shop::run(setting, account)) },
    Scenario { name: "sends-and-timers", run: |setting, account| Box::pin(failures::sends(setting, account)) },
    Scenario { name: "copies", run: |setting, account| Box::pin(failures::copies(setting, account)) },
    Scenario { name: "spilled-ledger", run: |setting, account| Box::pin(failures::spilled_ledger(setting, account)) },
    Scenario { name: "poison", run: |setting, account| Box::pin(failures::poison(setting, account)) },
    Scenario { name: "crashes", run: |setting, account| Box::pin(failures::crashes(setting, account)) },
    Scenario { name: "time-outs", run: |setting, account| Box::pin(failures::time_outs(setting, account)) },
    Scenario { name: "refusals", run: |setting, account| Box::pin(outages::refusals(setting, account)) },
    Scenario { name: "outboxes", run: |setting, account| Box::pin(outages::outboxes(setting, account)) },
    Scenario { name: "missed-wake-ups", run: |setting, account| Box::pin(outages::missed_wake_ups(setting, account)) },
    Scenario { name: "timers-with-faults", run: |setting, account| Box::pin(outages::faulty_timers(setting, account)) },
    Scenario { name: "flights", run: |setting, account| Box::pin(flights::plain(setting, account)) },
    Scenario { name: "flights-with-faults", run: |setting, account| Box::pin(flights::faulty(setting, account)) },
];
