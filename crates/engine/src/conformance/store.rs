//! Rules of the instance store.

use std::time::Duration;

use futures_util::future::join_all;
use statefun_core::{Address, Effect, Record, StoredValue, Timestamp, TypedValue};

use super::{
    Backend, Check, Finding, ensure,
    sample::{NEVER, TYPE, address, commit, envelope, id, spilled},
    works,
};
use crate::ports::{Acquired, Committed, InstanceStore};

const START: Timestamp = Timestamp(1_700_000_000_000);

fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

pub(super) async fn check(backend: &dyn Backend) -> Check {
    let store = &*backend.store();
    leases(store).await?;
    release(store).await?;
    one_of_many(store).await?;
    conditions(store).await?;
    everything_comes_back(store).await?;
    segments(store).await?;
    big_values(store).await?;
    barrier(backend).await
}

async fn held(store: &dyn InstanceStore, address: &Address, now: Timestamp) -> Result<Record, Finding> {
    match works("acquire", store.acquire(address, now, now.plus(Duration::from_secs(10))).await)? {
        Acquired::Held(record) => Ok(*record),
        Acquired::Busy => Err(format!("acquire: a free lease was refused at {now}")),
    }
}

async fn leases(store: &dyn InstanceStore) -> Check {
    let address = address("leases");
    let first = held(store, &address, after(0)).await?;
    ensure!(first.born == after(0), "acquire: a new record is not born now");
    ensure!(first.epoch == 1 && first.lease_until == after(10), "acquire: the record returned lacks its own epoch and lease");
    let again = works("acquire", store.acquire(&address, after(9), after(20)).await)?;
    ensure!(again == Acquired::Busy, "acquire: a lease that is held was given to another");
    let second = held(store, &address, after(10)).await?;
    ensure!(second.epoch == 2, "acquire: an expired lease did not raise the epoch");
    ensure!(second.born == first.born, "acquire: a record was born twice");
    let finished = works("finish", store.finish(&address, second.held()).await)?;
    ensure!(finished, "finish: the holder was refused");
    let third = held(store, &address, after(11)).await?;
    ensure!(third.epoch == 3, "finish: it did not free the lease");
    Ok(())
}

async fn release(store: &dyn InstanceStore) -> Check {
    let address = address("release");
    let base = held(store, &address, after(0)).await?;
    works("release", store.release(&address, base.epoch + 1).await)?;
    let busy = works("acquire", store.acquire(&address, after(1), after(20)).await)?;
    ensure!(busy == Acquired::Busy, "release: another epoch freed the lease");
    works("release", store.release(&address, base.epoch).await)?;
    let next = held(store, &address, after(2)).await?;
    ensure!(next.epoch == base.epoch + 1, "release: the lease that was freed did not raise the epoch");
    let send = Effect::Send(envelope(&super::sample::address("outbox"), 8, after(0)));
    let mut commit = commit(&address, &next, after(2), vec![send]);
    commit.record.lease_until = after(12);
    let committed = works("commit", store.commit(&commit).await)?;
    works("release", store.release(&address, next.epoch).await)?;
    let last = held(store, &address, after(3)).await?;
    ensure!(committed == Committed::Settled || last.outbox == commit.record.outbox, "release: it changed the outbox");
    ensure!(
        last.version == commit.record.version && last.state == commit.record.state,
        "release: it changed more than the lease"
    );
    Ok(())
}

async fn one_of_many(store: &dyn InstanceStore) -> Check {
    let address = address("many");
    let attempts = join_all((0..8).map(|_| store.acquire(&address, after(0), after(10)))).await;
    let winners = attempts.into_iter().flatten().filter(|acquired| *acquired != Acquired::Busy).count();
    ensure!(winners == 1, "acquire: {winners} of 8 at the same time got the lease");
    Ok(())
}

async fn conditions(store: &dyn InstanceStore) -> Check {
    let address = address("conditions");
    let unknown = commit(&address, &Record::default(), after(0), Vec::new());
    let committed = works("commit", store.commit(&unknown).await)?;
    ensure!(committed == Committed::Fenced, "commit: a record that does not exist was written");
    let old = held(store, &address, after(0)).await?;
    let new = held(store, &address, after(20)).await?;
    let late = commit(&address, &old, after(20), Vec::new());
    ensure!(works("commit", store.commit(&late).await)? == Committed::Fenced, "commit: an old epoch was let through");
    let good = commit(&address, &new, after(20), Vec::new());
    ensure!(works("commit", store.commit(&good).await)? != Committed::Fenced, "commit: the holder was fenced");
    ensure!(works("commit", store.commit(&good).await)? == Committed::Fenced, "commit: an old version was let through");
    for stale in [NEVER, old.held(), new.held()] {
        ensure!(!works("finish", store.finish(&address, stale).await)?, "finish: {stale:?} was let through");
    }
    let record = held(store, &address, after(40)).await?;
    ensure!(record.version == good.record.version, "commit: a fenced one changed the record");
    Ok(())
}

async fn everything_comes_back(store: &dyn InstanceStore) -> Check {
    let address = address("everything / with \"odd\" id");
    let base = held(store, &address, after(0)).await?;
    let send = Effect::Send(envelope(&super::sample::address("outbox"), 7, after(0)));
    let commit = commit(&address, &base, after(0), vec![send]);
    let committed = works("commit", store.commit(&commit).await)?;
    let found = held(store, &address, after(60)).await?;
    let mut expected = Record { epoch: 2, lease_until: after(70), ..commit.record.clone() };
    if committed == Committed::Settled {
        expected.outbox.clear();
    }
    ensure!(found == expected, "commit: the record came back changed:\n{found:?}\ninstead of\n{expected:?}");
    ensure!(works("finish", store.finish(&address, found.held()).await)?, "finish: the holder was refused");
    let finished = held(store, &address, after(61)).await?;
    ensure!(finished.outbox.is_empty(), "finish: the outbox is still there");
    ensure!(finished.state == expected.state, "finish: it changed more than outbox and lease");
    // A value that is removed is gone; the others stay.
    let mut removal = super::sample::commit(&address, &finished, after(61), Vec::new());
    removal.record.state = finished.state.clone();
    removal.record.state.remove("text");
    removal.record.state.insert("more".into(), StoredValue { value: TypedValue::present(TYPE, "x"), written_at: after(61) });
    removal.changed = vec!["text".into(), "more".into()];
    ensure!(works("commit", store.commit(&removal).await)? != Committed::Fenced, "commit: the holder was fenced");
    let found = held(store, &address, after(80)).await?;
    ensure!(found.state == removal.record.state, "commit: set and removed state values are not as committed");
    Ok(())
}

async fn segments(store: &dyn InstanceStore) -> Check {
    let (one, other) = (address("segments"), address("segments-other"));
    let base = held(store, &one, after(0)).await?;
    let commit = commit(&one, &base, after(0), Vec::new());
    ensure!(works("commit", store.commit(&commit).await)? != Committed::Fenced, "commit: the holder was fenced");
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
    let mut fenced = commit.clone();
    fenced.segment.as_mut().into_iter().for_each(|segment| {
        (segment.number, segment.ids) = (9, [id(999), id(998).keyed()].map(|id| spilled(id, after(0))).into());
    });
    ensure!(works("commit", store.commit(&fenced).await)? == Committed::Fenced, "commit: an old version was let through");
    let found = works("spilled", store.spilled(&one, &ids, Timestamp::ZERO).await)?;
    ensure!(!found.contains(&id(999)) && !found.contains(&id(998).keyed()), "commit: a fenced one stored its segment");
    let next = held(store, &one, after(60)).await?;
    let mut known = super::sample::commit(&one, &next, after(61), Vec::new());
    known.segment.as_mut().into_iter().for_each(|segment| {
        (segment.ids, segment.fresh) = (vec![spilled(id(102), after(61))], false);
    });
    ensure!(works("commit", store.commit(&known).await)? != Committed::Fenced, "commit: the holder was fenced");
    let ids = [id(100), id(101), id(102)];
    let found = works("spilled", store.spilled(&one, &ids, Timestamp::ZERO).await)?;
    ensure!(found.len() == 3, "spilled: {found:?} instead of what two segments hold");
    let found = works("spilled", store.spilled(&one, &ids, after(61)).await)?;
    ensure!(found == [id(102)], "spilled: {found:?} instead of what is new enough");
    Ok(())
}

async fn big_values(store: &dyn InstanceStore) -> Check {
    let address = address("big");
    let base = held(store, &address, after(0)).await?;
    let mut commit = commit(&address, &base, after(0), Vec::new());
    for name in ["one", "two"] {
        let bytes: Vec<u8> = (0..statefun_core::limits::MAX_VALUE_BYTES).map(|index| (index % 251) as u8).collect();
        let value = TypedValue::present(TYPE, bytes);
        commit.record.state.insert(name.into(), StoredValue { value, written_at: after(0) });
        commit.changed.push(name.into());
    }
    ensure!(works("commit", store.commit(&commit).await)? != Committed::Fenced, "commit: the holder was fenced");
    let found = held(store, &address, after(60)).await?;
    ensure!(found.state == commit.record.state, "commit: values of the largest size did not come back");
    Ok(())
}

/// The note that an envelope runs alone has to outlive the process, and whatever was written before it as well. After the power
/// cut the conditions go on from what was durable.
async fn barrier(backend: &dyn Backend) -> Check {
    let (earlier, noted) = (address("barrier-earlier"), address("barrier"));
    let mut commits = Vec::new();
    let store = backend.store();
    for address in [&earlier, &noted] {
        let base = held(&*store, address, after(0)).await?;
        let commit = commit(address, &base, after(0), Vec::new());
        ensure!(works("commit", store.commit(&commit).await)? != Committed::Fenced, "commit: the holder was fenced");
        commits.push(commit);
    }
    works("barrier", store.barrier().await)?;
    drop(store);
    backend.lose_power().await;
    let store = backend.store();
    for commit in commits {
        let found = held(&*store, &commit.address, after(60)).await?;
        let expected = Record { epoch: commit.record.epoch + 1, lease_until: after(70), ..commit.record };
        ensure!(
            found == expected,
            "barrier: {} was written before it, and after a power cut it is\n{found:?}\ninstead of\n{expected:?}",
            commit.address
        );
        let next = super::sample::commit(&commit.address, &found, after(61), Vec::new());
        ensure!(
            works("commit", store.commit(&next).await)? != Committed::Fenced,
            "commit: after a power cut the holder was fenced"
        );
    }
    Ok(())
}
