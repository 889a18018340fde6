//! Rules of the instance store.

use std::time::Duration;

use futures_util::future::join_all;
use statefun_core::{Address, Effect, Envelope, Lease, Outbox, Owner, Record, StoredValue, Timestamp, TypedValue};

use super::{
    Backend, Check, Finding, ensure,
    sample::{TYPE, address, commit, envelope, id, spilled},
    works,
};
use crate::ports::{Committed, InstanceStore, Leased, Leasing};

const START: Timestamp = Timestamp(1_700_000_000_000);

fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

pub(super) async fn check(backend: &dyn Backend) -> Check {
    let store = &*backend.store();
    many_are_read(store).await?;
    one_of_many(store).await?;
    conditions(store).await?;
    leases(store).await?;
    free(store).await?;
    everything_comes_back(store).await?;
    segments(store).await?;
    big_values(store).await?;
    big_outbox(store).await?;
    barrier(backend).await
}

async fn read(store: &dyn InstanceStore, address: &Address) -> Result<Option<Record>, Finding> {
    let mut found = store.load(&[address]).await;
    ensure!(found.len() == 1, "load: {} results for one address", found.len());
    match found.pop() {
        Some(found) => Ok(works("load", found)?.map(|record| *record)),
        None => Ok(None),
    }
}

/// The record that is stored.
async fn stored(store: &dyn InstanceStore, address: &Address) -> Result<Record, Finding> {
    read(store, address).await?.ok_or_else(|| format!("load: {address} was written, and there is no record"))
}

/// Writes an address's first record.
async fn born(store: &dyn InstanceStore, address: &Address, now: Timestamp) -> Result<Record, Finding> {
    let first = commit(address, &Record::new(now), now, Vec::new());
    ensure!(works("commit", store.commit(&first).await)? != Committed::Fenced, "commit: a first one was refused");
    stored(store, address).await
}

async fn many_are_read(store: &dyn InstanceStore) -> Check {
    let addresses: Vec<_> = (0..130).map(|number| address(&format!("read-{number}"))).collect();
    for address in addresses.iter().step_by(3) {
        born(store, address, after(0)).await?;
    }
    let found = store.load(&addresses.iter().rev().collect::<Vec<_>>()).await;
    ensure!(found.len() == addresses.len(), "load: {} results for {} addresses", found.len(), addresses.len());
    for (number, found) in (0..addresses.len()).rev().zip(found) {
        let is_there = works("load", found)?.is_some();
        ensure!(is_there == number.is_multiple_of(3), "load: the results are not in the order of the addresses");
    }
    ensure!(store.load(&[]).await.is_empty(), "load: a result for no address");
    Ok(())
}

async fn one_of_many(store: &dyn InstanceStore) -> Check {
    let address = address("many");
    for base in [Record::new(after(0)), born(store, &super::sample::address("many-more"), after(0)).await?] {
        let address = if base.version == 0 { address.clone() } else { super::sample::address("many-more") };
        let commit = commit(&address, &base, after(0), Vec::new());
        let attempts = join_all((0..8).map(|_| store.commit(&commit))).await;
        let winners = attempts.into_iter().flatten().filter(|committed| *committed != Committed::Fenced).count();
        ensure!(winners == 1, "commit: {winners} of 8 at the same time were written");
    }
    Ok(())
}

async fn conditions(store: &dyn InstanceStore) -> Check {
    let address = address("conditions");
    let unknown = commit(&address, &Record { version: 7, ..Record::new(after(0)) }, after(0), Vec::new());
    ensure!(
        works("commit", store.commit(&unknown).await)? == Committed::Fenced,
        "commit: a record that does not exist was written"
    );
    ensure!(!works("finish", store.finish(&address, 7).await)?, "finish: a record that does not exist was written");
    ensure!(read(store, &address).await?.is_none(), "commit: a refused one made a record");
    let old = born(store, &address, after(0)).await?;
    ensure!((old.born, old.version) == (after(0), after(0).0), "commit: birth and version came back changed");
    let again = commit(&address, &Record::new(after(1)), after(1), Vec::new());
    ensure!(works("commit", store.commit(&again).await)? == Committed::Fenced, "commit: a record was born twice");
    let good = commit(&address, &old, after(20), Vec::new());
    ensure!(works("commit", store.commit(&good).await)? != Committed::Fenced, "commit: the right version was refused");
    ensure!(works("commit", store.commit(&good).await)? == Committed::Fenced, "commit: an old version was let through");
    for stale in [0, old.version, good.record.version + 1] {
        ensure!(!works("finish", store.finish(&address, stale).await)?, "finish: version {stale} was let through");
    }
    ensure!(stored(store, &address).await? == good.record, "commit: a refused one changed the record");
    Ok(())
}

fn leasing(record: &Record, owner: u64) -> Leasing {
    let lease = Lease { owner: Owner(owner), until: after(60) };
    Leasing { expect: record.version, makes: record.next_version(), born: record.born, lease }
}

async fn leases(store: &dyn InstanceStore) -> Check {
    let address = address("leases");
    let new = leasing(&Record::new(after(0)), 1);
    for what in ["a lease where there is no record", "its repetition"] {
        ensure!(works("lease", store.lease(&address, &new).await)? == Leased::Taken, "lease: {what} was refused");
    }
    let first = stored(store, &address).await?;
    let expected = Record { version: after(0).0, lease: Some(new.lease), ..Record::new(after(0)) };
    ensure!(first == expected, "lease: the record that it makes is\n{first:?}\ninstead of\n{expected:?}");
    for other in [leasing(&Record::new(after(0)), 2), Leasing { expect: first.version + 1, ..leasing(&first, 2) }] {
        ensure!(
            works("lease", store.lease(&address, &other).await)? == Leased::Refused,
            "lease: a wrong version was let through"
        );
    }
    let base = commit(&address, &first, after(1), Vec::new());
    ensure!(works("commit", store.commit(&base).await)? != Committed::Fenced, "commit: behind a lease it was refused");
    ensure!(stored(store, &address).await? == base.record, "commit: it did not free the lease");
    let next = leasing(&base.record, 3);
    ensure!(works("lease", store.lease(&address, &next).await)? == Leased::Taken, "lease: the right version was refused");
    let held = stored(store, &address).await?;
    let expected = Record { version: next.makes, lease: Some(next.lease), ..base.record.clone() };
    ensure!(held == expected, "lease: it changed more than version and lease");
    let late = commit(&address, &base.record, after(2), Vec::new());
    ensure!(works("commit", store.commit(&late).await)? == Committed::Fenced, "lease: it did not raise the version");
    ensure!(works("finish", store.finish(&address, held.version).await)?, "finish: the right version was refused");
    let finished = stored(store, &address).await?;
    let expected = Record { version: held.version + 1, lease: None, ..base.record };
    ensure!(finished == expected, "finish: it has to free the lease and raise the version, and nothing else");
    Ok(())
}

async fn free(store: &dyn InstanceStore) -> Check {
    let address = address("free");
    works("free", store.free(&address, Owner(1)).await)?;
    ensure!(read(store, &address).await?.is_none(), "free: it made a record");
    let base = born(store, &address, after(0)).await?;
    let taken = leasing(&base, 1);
    ensure!(works("lease", store.lease(&address, &taken).await)? == Leased::Taken, "lease: the right version was refused");
    works("free", store.free(&address, Owner(2)).await)?;
    ensure!(stored(store, &address).await?.lease == Some(taken.lease), "free: another run freed the lease");
    for _ in 0..2 {
        works("free", store.free(&address, Owner(1)).await)?;
        let freed = stored(store, &address).await?;
        ensure!(
            freed.lease.is_none() && freed.version == taken.makes + 1,
            "free: it has to free the lease and raise the version, once"
        );
        ensure!(freed.state == base.state, "free: it changed more than version and lease");
    }
    Ok(())
}

async fn everything_comes_back(store: &dyn InstanceStore) -> Check {
    let address = address("everything / with \"odd\" id");
    let send = Effect::Send(envelope(&super::sample::address("outbox"), 7, after(0)));
    let mut first = commit(&address, &Record::new(after(0)), after(0), vec![send]);
    first.record.lease = Some(Lease { owner: Owner(u64::MAX), until: after(9) });
    let committed = works("commit", store.commit(&first).await)?;
    let found = stored(store, &address).await?;
    let mut expected = first.record.clone();
    if committed == Committed::Settled {
        (expected.outbox, expected.lease) = (Outbox::default(), None);
    }
    ensure!(found == expected, "commit: the record came back changed:\n{found:?}\ninstead of\n{expected:?}");
    ensure!(works("finish", store.finish(&address, found.version).await)?, "finish: the right version was refused");
    let finished = stored(store, &address).await?;
    ensure!(finished.outbox.is_empty(), "finish: the outbox is still there");
    ensure!(finished.state == expected.state, "finish: it changed more than outbox and lease");
    // A value that is removed is gone; the others stay.
    let mut removal = super::sample::commit(&address, &finished, after(61), Vec::new());
    removal.record.state = finished.state.clone();
    removal.record.state.remove("text");
    removal.record.state.insert("more".into(), StoredValue { value: TypedValue::present(TYPE, "x"), written_at: after(61) });
    removal.changed = vec!["text".into(), "more".into()];
    ensure!(works("commit", store.commit(&removal).await)? != Committed::Fenced, "commit: the right version was refused");
    let found = stored(store, &address).await?;
    ensure!(found.state == removal.record.state, "commit: set and removed state values are not as committed");
    Ok(())
}

async fn segments(store: &dyn InstanceStore) -> Check {
    let (one, other) = (address("segments"), address("segments-other"));
    let commit = commit(&one, &Record::new(after(0)), after(0), Vec::new());
    ensure!(works("commit", store.commit(&commit).await)? != Committed::Fenced, "commit: the right version was refused");
    let ids = [id(100), id(101), id(103).keyed(), id(999), id(998).keyed()];
    let found = works("spilled", store.spilled(&one, &ids, after(0)).await)?;
    let wrong = found.contains(&id(999)) || found.contains(&id(998).keyed());
    ensure!(found.len() == 3 && !wrong, "spilled: {found:?} instead of the three that were");
    let found = works("spilled", store.spilled(&one, &[id(103).keyed()], Timestamp::ZERO).await)?;
    ensure!(found == [id(103).keyed()], "spilled: {found:?} instead of a producer's key");
    let found = works("spilled", store.spilled(&one, &[id(104).keyed()], Timestamp::ZERO).await)?;
    ensure!(found.is_empty(), "spilled: a producer's key was found after its own time, with its segment");
    let found = works("spilled", store.spilled(&other, &ids, Timestamp::ZERO).await)?;
    ensure!(found.is_empty(), "spilled: another address's segments were found");
    // As its own, or in the place of the one that is there; ids that are known already may be stored before their commit.
    let (unknown, known) = (vec![id(999), id(998).keyed()], vec![id(100)]);
    for (number, fresh, held) in [(9, true, &unknown), (0, true, &unknown), (0, false, &known)] {
        let mut fenced = commit.clone();
        fenced.segment.as_mut().into_iter().for_each(|segment| {
            (segment.number, segment.fresh) = (number, fresh);
            segment.ids = held.iter().map(|id| spilled(*id, after(0))).collect();
        });
        ensure!(works("commit", store.commit(&fenced).await)? == Committed::Fenced, "commit: an old version was let through");
        let found = works("spilled", store.spilled(&one, &ids, after(0)).await)?;
        ensure!(!found.contains(&id(999)) && !found.contains(&id(998).keyed()), "commit: a fenced one stored its segment");
        let left = ids[..3].iter().all(|id| found.contains(id));
        ensure!(left, "commit: a fenced one removed ids of the segment that was there, {found:?} are left");
    }
    let next = stored(store, &one).await?;
    let mut known = super::sample::commit(&one, &next, after(61), Vec::new());
    known.segment.as_mut().into_iter().for_each(|segment| {
        (segment.ids, segment.fresh) = (vec![spilled(id(102), after(61))], false);
    });
    ensure!(works("commit", store.commit(&known).await)? != Committed::Fenced, "commit: the right version was refused");
    let ids = [id(100), id(101), id(102)];
    let found = works("spilled", store.spilled(&one, &ids, Timestamp::ZERO).await)?;
    ensure!(ids.iter().all(|id| found.contains(id)), "spilled: {found:?} instead of what two segments hold");
    let found = works("spilled", store.spilled(&one, &ids, after(61)).await)?;
    ensure!(found == [id(102)], "spilled: {found:?} instead of what is new enough");
    Ok(())
}

async fn big_values(store: &dyn InstanceStore) -> Check {
    let address = address("big");
    let mut commit = commit(&address, &Record::new(after(0)), after(0), Vec::new());
    for name in ["one", "two"] {
        let bytes: Vec<u8> = (0..statefun_core::limits::MAX_VALUE_BYTES).map(|index| (index % 251) as u8).collect();
        let value = TypedValue::present(TYPE, bytes);
        commit.record.state.insert(name.into(), StoredValue { value, written_at: after(0) });
        commit.changed.push(name.into());
    }
    ensure!(works("commit", store.commit(&commit).await)? != Committed::Fenced, "commit: the right version was refused");
    let found = stored(store, &address).await?;
    ensure!(found.state == commit.record.state, "commit: values of the largest size did not come back");
    Ok(())
}

/// One beyond what a record holds. Whoever is refused leaves it as it is.
async fn big_outbox(store: &dyn InstanceStore) -> Check {
    let address = address("big-outbox");
    let sent = |numbers: [u64; 2]| numbers.map(|number| Effect::Send(big(&address, number))).to_vec();
    let first = commit(&address, &Record::new(after(0)), after(0), sent([1, 3]));
    let committed = works("commit", store.commit(&first).await)?;
    ensure!(committed != Committed::Fenced, "commit: the right version was refused");
    let late = commit(&address, &Record::new(after(0)), after(0), sent([5, 7]));
    ensure!(works("commit", store.commit(&late).await)? == Committed::Fenced, "commit: an old version was let through");
    let expected = if committed == Committed::Settled { Outbox::default() } else { first.record.outbox };
    ensure!(stored(store, &address).await?.outbox == expected, "commit: a big outbox did not come back as it was committed");
    Ok(())
}

/// An envelope that fills most of a record.
fn big(to: &Address, number: u64) -> Envelope {
    let bytes: Vec<u8> = (0..200 * 1_024).map(|index| ((index + number) % 251) as u8).collect();
    Envelope { messages: vec![TypedValue::present(TYPE, bytes)], ..envelope(to, number, after(0)) }
}

/// The note that an envelope runs alone has to outlive the process, and whatever was written before it as well. After the power
/// cut the conditions go on from what was durable.
async fn barrier(backend: &dyn Backend) -> Check {
    let (earlier, noted) = (address("barrier-earlier"), address("barrier"));
    let mut commits = Vec::new();
    let store = backend.store();
    for address in [&earlier, &noted] {
        let commit = commit(address, &Record::new(after(0)), after(0), Vec::new());
        ensure!(works("commit", store.commit(&commit).await)? != Committed::Fenced, "commit: the right version was refused");
        commits.push(commit);
    }
    works("barrier", store.barrier().await)?;
    drop(store);
    backend.lose_power().await;
    let store = backend.store();
    for commit in commits {
        let found = read(&*store, &commit.address).await?;
        let (expected, address) = (&commit.record, &commit.address);
        ensure!(
            found.as_ref() == Some(expected),
            "barrier: {address} was written before it, and after a power cut it is\n{found:?}\ninstead of\n{expected:?}"
        );
        let found = commit.record;
        let next = super::sample::commit(&commit.address, &found, after(61), Vec::new());
        ensure!(
            works("commit", store.commit(&next).await)? != Committed::Fenced,
            "commit: after a power cut the right version was refused"
        );
    }
    Ok(())
}
