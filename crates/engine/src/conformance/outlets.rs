//! Rules of timers, egress and dead letters.

use std::time::Duration;

use statefun_core::{RefusedRecord, Timestamp};

use super::{
    Backend, Check, ensure,
    sample::{EGRESS, egress_record, id, letter, timer},
    works,
};

pub(super) async fn check(backend: &dyn Backend) -> Check {
    timers(backend).await?;
    egress(backend).await?;
    dead_letters(backend).await
}

async fn timers(backend: &dyn Backend) -> Check {
    let timers = backend.timers();
    let at = |seconds| backend.now().plus(Duration::from_secs(seconds));
    let base = at(100_000);
    let due = |seconds: u64| base.plus(Duration::from_secs(seconds));
    for (number, seconds) in [(12, 30), (10, 10), (14, 5_000_000), (13, 30), (11, 10)] {
        works("schedule", timers.schedule(&timer(number, due(seconds))).await)?;
    }
    works("schedule", timers.schedule(&timer(10, due(10))).await)?;
    ensure!(works("due", timers.due(due(9), 10).await)?.is_empty(), "due: a timer came before its time");
    let ready = works("due", timers.due(due(30), 10).await)?;
    let numbers: Vec<_> = ready.iter().map(|timer| timer.envelope.id).collect();
    ensure!(numbers == [10, 11, 12, 13].map(id), "due: {numbers:?} is not by time and id, each once");
    ensure!(ready[0] == timer(10, due(10)), "due: the timer came back changed");
    let few = works("due", timers.due(due(30), 2).await)?;
    ensure!(few.len() == 2 && few[0].envelope.id == id(10), "due: the limit is not the earliest ones");
    works("remove", timers.remove(id(10), due(10)).await)?;
    works("remove", timers.remove(id(10), due(10)).await)?;
    works("remove", timers.remove(id(12), due(30)).await)?;
    works("remove", timers.remove(id(999), Timestamp(1)).await)?;
    let left = works("due", timers.due(due(9_000_000), 10).await)?;
    let numbers: Vec<_> = left.iter().map(|timer| timer.envelope.id).collect();
    ensure!(numbers == [11, 13, 14].map(id), "remove: {numbers:?} are left");
    for timer in left {
        works("remove", timers.remove(timer.envelope.id, timer.due).await)?;
    }
    Ok(())
}

async fn egress(backend: &dyn Backend) -> Check {
    let records = [20, 21, 22].map(|number| egress_record(number, backend.now()));
    let (first, second) = records.split_at(2);
    for part in [first, second] {
        let results = backend.egress().emit(&part.iter().collect::<Vec<_>>()).await;
        ensure!(results.len() == part.len(), "emit: {} results for {} records", results.len(), part.len());
        for result in results {
            works("emit", result)?;
        }
    }
    let emitted = backend.emitted(&EGRESS).await;
    ensure!(emitted == records, "emit: the egress has {emitted:?}");
    Ok(())
}

async fn dead_letters(backend: &dyn Backend) -> Check {
    let letters = [30, 31].map(|number| letter(number, backend.now()));
    for letter in letters.iter().chain(&letters[..1]) {
        works("park", backend.dead_letters().park(letter).await)?;
    }
    let mut parked = backend.parked().await;
    parked.sort_by_key(|letter| letter.id);
    ensure!(parked == letters, "park: the dead letters are {parked:?}");
    let refused = [40, 41].map(|number| {
        let (now, error) = (backend.now(), "it said \"no\"\nfive times".to_owned());
        RefusedRecord::new(egress_record(number, now), error, 5, now)
    });
    for one in refused.iter().chain(&refused[..1]) {
        works("park refused", backend.dead_letters().park_refused(one).await)?;
    }
    let mut parked = backend.refused().await;
    parked.sort_by_key(|refused| refused.record.id);
    ensure!(parked == refused, "park refused: the dead letters are {parked:?}");
    Ok(())
}
