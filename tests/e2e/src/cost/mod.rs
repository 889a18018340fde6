//! The cost report: real batches through the engine over the AWS adapters, their calls counted and their items measured.
//!
//! Not counted: how long a Lambda runs (it depends on its memory and handler), and what brings records to the router.

mod meter;
mod report;
mod workload;

use std::{path::Path, sync::Arc};

use indicatif::{ProgressBar, ProgressStyle};

use crate::problem::{Problem, Result};
use report::Line;
use workload::{Shape, Workload};

/// What is measured: a name, the shape of a batch, how often, and what bounds it.
struct Case {
    name: &'static str,
    shape: Shape,
    /// Batches that are measured.
    batches: usize,
    /// Every batch meets an environment that knows none of its addresses.
    cold: bool,
    why: &'static str,
}

/// Bytes of a small message: an order, a click.
const SMALL: usize = 44;

const CASES: &[Case] = &[
    Case {
        name: "warm, 10 addresses, 1 message each",
        shape: Shape { addresses: 10, messages: 1, sends: false, payload: SMALL },
        batches: 10,
        cold: false,
        why: "the floor: one conditional write a message; send, receive, delete and invocation shared by ten",
    },
    Case {
        name: "the same over 100 batches",
        shape: Shape { addresses: 10, messages: 1, sends: false, payload: SMALL },
        batches: 100,
        cold: false,
        why: "now and then the ids that a record has no more room for go to a ledger segment, for one write unit",
    },
    Case {
        name: "the same with 600 bytes of state",
        shape: Shape { addresses: 10, messages: 1, sends: false, payload: 600 },
        batches: 100,
        cold: false,
        why: "there is room for a few ids in the one unit that each write takes: segments come more often",
    },
    Case {
        name: "warm, 2 addresses, 5 messages each",
        shape: Shape { addresses: 2, messages: 5, sends: false, payload: SMALL },
        batches: 2,
        cold: false,
        why: "five messages share one write",
    },
    Case {
        name: "the same over 50 batches",
        shape: Shape { addresses: 2, messages: 5, sends: false, payload: SMALL },
        batches: 50,
        cold: false,
        why: "with ledger segments",
    },
    Case {
        name: "warm, 1 address, 10 messages",
        shape: Shape { addresses: 1, messages: 10, sends: false, payload: SMALL },
        batches: 1,
        cold: false,
        why: "ten messages share one write",
    },
    Case {
        name: "cold, 10 addresses, 1 message each",
        shape: Shape { addresses: 10, messages: 1, sends: false, payload: SMALL },
        batches: 5,
        cold: true,
        why: "a read, which the ten share a call for, and the commit",
    },
    Case {
        name: "cold, 1 address, 1 message",
        shape: Shape { addresses: 1, messages: 1, sends: false, payload: SMALL },
        batches: 5,
        cold: true,
        why: "nothing is shared: a batch of one pays for send, receive, delete and invocation alone",
    },
    Case {
        name: "chain, warm, 10 at a time",
        shape: Shape { addresses: 10, messages: 1, sends: true, payload: SMALL },
        batches: 10,
        cold: false,
        why: "each message sends one: sends of one invocation share requests; a second write clears the outbox",
    },
    Case {
        name: "chain, cold, 10 at a time",
        shape: Shape { addresses: 10, messages: 1, sends: true, payload: SMALL },
        batches: 5,
        cold: true,
        why: "read, commit with the outbox, finish after it was sent",
    },
    Case {
        name: "chain, cold, 1 at a time",
        shape: Shape { addresses: 1, messages: 1, sends: true, payload: SMALL },
        batches: 5,
        cold: true,
        why: "a read and two writes, and nothing is shared",
    },
];

/// On a terminal, which case is measured and how many batches are left.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new(CASES.iter().map(|case| Workload::batches(case.batches)).sum());
    match ProgressStyle::with_template("{bar:30} {pos} of {len} batches, {eta} left: {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Measures everything against an endpoint, prints the table, and writes it as JSON if asked to.
pub(crate) async fn run(endpoint: &str, json: Option<&Path>) -> Result<()> {
    let mut lines = Vec::new();
    let shown = progress();
    for case in CASES {
        shown.set_message(case.name);
        let workload = Arc::new(Workload::new(endpoint, case.shape).await?);
        let spent = workload.run(case.batches, case.cold, &|| shown.inc(1)).await.map_err(|problem| problem.during(case.name))?;
        lines.push(Line::new(case.name, case.why, &spent));
    }
    shown.finish_and_clear();
    println!("{}", report::table(&lines));
    if let Some(path) = json {
        std::fs::write(path, report::json(&lines)).map_err(|error| Problem::from(error).during(path.display()))?;
    }
    Ok(())
}
