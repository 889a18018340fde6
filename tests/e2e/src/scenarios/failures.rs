//! What goes wrong in functions themselves, by the tests' own function `e2e/worker`: it fails, hangs and exits as it is asked.

use std::time::Duration;

use serde_json::{Value, json};
use statefun_core::{Envelope, Timestamp};

use crate::{
    deploy::Changes,
    problem::{Problem, Result, same, until},
    task::{Act, Notes, Task},
    world::{Setting, World, envelope},
};

/// A lease outlives its invocation by 10 seconds, so that a death costs its address some 15.
pub(super) const LIMIT: Duration = Duration::from_secs(90);

pub(super) const CHANGES: Changes =
    Changes { timeout: Some(4), visibility: Some(4), without_events: &[], own_functions: true, no_marks: false };

/// The queue of the test's own functions.
pub(super) const QUEUE: &str = "E2eFunctionsQueue";

pub(super) async fn tell(world: &World, worker: &str, number: u64, act: Act) -> Result<()> {
    let envelope = envelope(&format!("e2e/worker/{worker}"), &number.to_string(), "e2e/task", &Task { number, act })?;
    world.send_envelope(QUEUE, &envelope, &envelope.id.to_string()).await
}

/// The worker has noted these numbers, in this order.
pub(super) async fn noted(world: &World, worker: &str, expected: &[u64]) -> Result<()> {
    until(&format!("worker {worker}"), LIMIT, async || {
        let notes = world.state::<Notes>(&format!("e2e/worker/{worker}"), "notes").await?.unwrap_or_default();
        same("noted", &notes.numbers.as_slice(), &expected)
    })
    .await
}

/// There are as many dead letters, with these reasons.
pub(super) async fn parked(world: &World, expected: &[&str]) -> Result<()> {
    until("the dead letters", LIMIT, async || {
        let letters = world.dead_letters().await?;
        let mut reasons: Vec<_> = letters.values().map(|letter| letter["reason"].as_str().unwrap_or_default()).collect();
        reasons.sort_unstable();
        same("reasons", &reasons.as_slice(), &expected)
    })
    .await
}

pub(super) async fn finished(world: &World) -> Result<()> {
    world.emptied(world.stack.queue(QUEUE)?, LIMIT).await
}

/// A message that fails is parked after its tries; its neighbours and what comes after it go on; a replay takes effect once the
/// handler is fixed.
pub(super) async fn poison(setting: &Setting, account: &str) -> Result<String> {
    let world = World::deploy(setting, account, &CHANGES).await?;
    for (worker, number, act) in [
        ("ann", 1, Act::Note),
        ("ann", 2, Act::Fail),
        ("ann", 3, Act::Note),
        ("bob", 4, Act::Note),
        ("cyd", 5, Act::FailForGood),
        ("cyd", 6, Act::Note),
    ] {
        tell(&world, worker, number, act).await?;
    }
    noted(&world, "bob", &[4]).await?;
    noted(&world, "cyd", &[6]).await?;
    noted(&world, "ann", &[1, 3]).await?;
    until("the dead letters", LIMIT, async || {
        let letters = world.dead_letters().await?;
        let mut told: Vec<_> =
            letters.values().map(|letter| (letter["attempts"].as_u64(), letter["error"].to_string())).collect();
        told.sort();
        let right = told.len() == 2
            && [told[0].0, told[1].0] == [Some(1), Some(2)]
            && told.iter().all(|(_, error)| error.contains("as it was asked"));
        if right { Ok(()) } else { Err(Problem::new(format!("attempts and errors are {told:?}"))) }
    })
    .await?;

    // Not fixed yet: what is replayed is parked again, as a message of its own.
    replay(&world, json!({}), 2).await?;
    until("the dead letters", LIMIT, async || same("dead letters", &world.dead_letters().await?.len(), &2)).await?;
    finished(&world).await?;
    tell(&world, "ann", 7, Act::Fix).await?;
    tell(&world, "cyd", 8, Act::Fix).await?;
    noted(&world, "ann", &[1, 3, 7]).await?;
    noted(&world, "cyd", &[6, 8]).await?;
    let letters = world.dead_letters().await?;
    let anns = letters.iter().find(|(_, letter)| letter["envelope"]["to"] == "e2e/worker/ann");
    let (id, _) = anns.ok_or_else(|| Problem::new(format!("no letter is for ann: {letters:?}")))?;
    replay(&world, json!({"ids": [id]}), 1).await?;
    noted(&world, "ann", &[1, 3, 7, 2]).await?;
    replay(&world, json!({"function": "e2e/another"}), 0).await?;
    noted(&world, "cyd", &[6, 8]).await?;
    replay(&world, json!({"function": "e2e/worker"}), 1).await?;
    noted(&world, "cyd", &[6, 8, 5]).await?;
    finished(&world).await?;
    parked(&world, &[]).await?;
    Ok("2 poison messages parked, replayed, parked again, fixed, replayed".to_owned())
}

async fn replay(world: &World, mut command: Value, sent: u64) -> Result<()> {
    command["statefun"] = "replay-dead-letters".into();
    let answer = world.operate(&command).await?;
    same("sent again", &answer["sent"].as_u64(), &Some(sent))
}

/// A process that dies once loses nothing; a message that always kills it is parked without being run again.
pub(super) async fn crashes(setting: &Setting, account: &str) -> Result<String> {
    let world = World::deploy(setting, account, &CHANGES).await?;
    let file = world.folder.path().join("exited").display().to_string();
    tell(&world, "ann", 1, Act::Note).await?;
    tell(&world, "ann", 2, Act::ExitOnce(file)).await?;
    tell(&world, "ann", 3, Act::Note).await?;
    let runs = world.folder.path().join("runs");
    tell(&world, "bob", 4, Act::Exit(runs.display().to_string())).await?;
    tell(&world, "bob", 5, Act::Note).await?;
    tell(&world, "cyd", 6, Act::Note).await?;
    noted(&world, "cyd", &[6]).await?;
    noted(&world, "ann", &[1, 2, 3]).await?;
    noted(&world, "bob", &[5]).await?;
    parked(&world, &["died"]).await?;
    finished(&world).await?;
    // Perhaps once while it is not suspected, once watched, then alone as often as it may fail (twice); after that it is parked and not run.
    let runs = std::fs::read_to_string(runs)?.lines().count();
    if !(2..=4).contains(&runs) {
        return Err(Problem::new(format!("the message that kills every process ran {runs} times")));
    }
    Ok(format!("1 process that died once, 1 message that kills every process parked after {runs} runs"))
}

/// A handler that waits for ever is given up by the runtime, one that blocks is ended by Lambda with its process; both messages are
/// tried again.
pub(super) async fn time_outs(setting: &Setting, account: &str) -> Result<String> {
    let world = World::deploy(setting, account, &CHANGES).await?;
    let file = |name: &str| world.folder.path().join(name).display().to_string();
    tell(&world, "ann", 1, Act::Note).await?;
    tell(&world, "ann", 2, Act::HangOnce(file("hung"))).await?;
    tell(&world, "ann", 3, Act::Note).await?;
    noted(&world, "ann", &[1, 2, 3]).await?;
    tell(&world, "bob", 4, Act::BlockOnce(file("blocked"))).await?;
    tell(&world, "bob", 5, Act::Note).await?;
    noted(&world, "bob", &[4, 5]).await?;
    finished(&world).await?;
    parked(&world, &[]).await?;
    // The runtime's own time-out keeps the process, Lambda's ends it.
    let survived = |name: &str| -> Result<bool> {
        let process = |file: String| Ok::<_, Problem>(std::fs::read_to_string(file)?);
        Ok(process(file(name))? == process(file(name) + ".again")?)
    };
    same("the process went on (hung, blocked)", &(survived("hung")?, survived("blocked")?), &(true, false))?;
    Ok("1 handler given up, 1 invocation ended by Lambda".to_owned())
}

/// Copies of old messages, as a redrive makes them, have no effect. What was long on its way and is not a copy has one: the ledger of
/// the instance has forgotten nothing yet.
pub(super) async fn copies(setting: &Setting, account: &str) -> Result<String> {
    let world = World::deploy(setting, account, &CHANGES).await?;
    let first = envelope("e2e/worker/ann", "first", "e2e/task", &Task { number: 1, act: Act::Note })?;
    world.send_envelope(QUEUE, &first, &first.id.to_string()).await?;
    tell(&world, "ann", 2, Act::Note).await?;
    noted(&world, "ann", &[1, 2]).await?;
    // A new message to the queue, with a new sequence number: only the ledger can know it.
    for copy in ["redriven", "redriven again"].map(|text| text.replace(' ', "-")) {
        world.send_envelope(QUEUE, &first, &copy).await?;
    }
    let mut old = envelope("e2e/worker/ann", "old", "e2e/task", &Task { number: 3, act: Act::Note })?;
    old.sent_at = Timestamp(old.sent_at.0 - 22 * 86_400_000);
    world.send_envelope(QUEUE, &old, &old.id.to_string()).await?;
    tell(&world, "ann", 4, Act::Note).await?;
    world.send_envelope(QUEUE, &old, "old-redriven").await?;
    noted(&world, "ann", &[1, 2, 3, 4]).await?;
    finished(&world).await?;
    noted(&world, "ann", &[1, 2, 3, 4]).await?;
    parked(&world, &[]).await?;
    Ok("3 copies without effect, 1 message of 22 days ago applied once".to_owned())
}

/// An instance whose ledger left its record: what was long on its way is looked up. A copy has no effect, what is not a copy has one,
/// and what is older than the ledger's memory becomes a dead letter.
pub(super) async fn spilled_ledger(setting: &Setting, account: &str) -> Result<String> {
    /// More than a record has room for.
    const MESSAGES: u64 = 60;
    const MINUTES: u64 = 60_000;
    let world = World::deploy(setting, account, &CHANGES).await?;
    let sent = |number: u64, minutes_ago: u64| -> Result<Envelope> {
        let task = Task { number, act: Act::Note };
        let envelope = envelope("e2e/worker/ann", &number.to_string(), "e2e/task", &task)?;
        Ok(Envelope { sent_at: Timestamp(envelope.sent_at.0 - minutes_ago * MINUTES), ..envelope })
    };
    let mut expected: Vec<u64> = (1..=MESSAGES).collect();
    for number in &expected {
        let envelope = sent(*number, 0)?;
        world.send_envelope(QUEUE, &envelope, &envelope.id.to_string()).await?;
    }
    noted(&world, "ann", &expected).await?;
    let items = world.items("e2e/worker/ann").await?;
    let segments =
        items.iter().filter(|item| item.get("sk").and_then(|sort| sort.as_s().ok()).is_some_and(|sort| sort.starts_with("s#")));
    let segments = segments.count();
    if segments == 0 {
        return Err(Problem::new(format!("nothing of {MESSAGES} messages was spilled")));
    }
    // Ten minutes are beyond the queue's own memory: freshness proves nothing.
    for (name, number, minutes_ago) in
        [("first", 1, 10), ("last", MESSAGES, 10), ("late", MESSAGES + 1, 10), ("forgotten", MESSAGES + 2, 22 * 24 * 60)]
    {
        world.send_envelope(QUEUE, &sent(number, minutes_ago)?, name).await?;
    }
    expected.push(MESSAGES + 1);
    noted(&world, "ann", &expected).await?;
    parked(&world, &["too-old"]).await?;
    finished(&world).await?;
    noted(&world, "ann", &expected).await?;
    // Whether it was applied cannot be known, so a replay has to be asked for it.
    let listed = world.operate(&json!({"statefun": "list-dead-letters"})).await?;
    same("the letter says it", &listed["letters"][0]["may_be_applied"], &json!(true))?;
    let left = world.operate(&json!({"statefun": "replay-dead-letters"})).await?;
    same("sent and left", &[&left["sent"], &left["may_be_applied"]], &[&json!(0), &json!(1)])?;
    replay(&world, json!({"may_be_applied": true}), 1).await?;
    expected.push(MESSAGES + 2);
    noted(&world, "ann", &expected).await?;
    parked(&world, &[]).await?;
    Ok(format!(
        "{segments} segments; 2 copies without effect, 1 late message applied, 1 of 22 days ago parked and sent when asked"
    ))
}

/// Messages of functions to each other, and to themselves later.
pub(super) async fn sends(setting: &Setting, account: &str) -> Result<String> {
    const HOPS: u64 = 30;
    let world = World::deploy(setting, account, &Changes { no_marks: true, ..CHANGES }).await?;
    let ring: Vec<String> = ["ann", "bob", "cyd"].map(str::to_owned).into();
    tell(&world, "ann", HOPS, Act::Pass(ring.clone())).await?;
    tell(&world, "dan", 1, Act::Later(2, 1_500)).await?;
    tell(&world, "dan", 3, Act::Later(4, 10)).await?;
    noted(&world, "dan", &[1, 3, 4, 2]).await?;
    for (place, worker) in ring.iter().enumerate() {
        let numbers: Vec<u64> = (0..=HOPS).rev().skip(place).step_by(ring.len()).collect();
        noted(&world, worker, &numbers).await?;
    }
    finished(&world).await?;
    same("timers left", &world.items("timers#").await?.len(), &0)?;
    parked(&world, &[]).await?;
    Ok(format!("{HOPS} hops, 2 delayed messages"))
}
