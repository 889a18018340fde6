//! The store as a whole: open, wait for durability, close.

use std::{
    fs,
    ops::Bound,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use statefun_engine::ports::{Clock, PortError};

use crate::{
    Op,
    batch::{Batch, Key, Table},
    consumer::Consumer,
    disk::{Disk, DiskError},
    durable::{Durable, Waiters},
    flusher,
    folder::{Folder, OpenError, newer},
    heads::Heads,
    lanes::{Lane, Lanes},
    log::{Log, Stop},
    options::Options,
    shared::{CLOSED, Files, FirstDue, Published, Shared, State, Wakes, Watched, refused},
    tables::{
        Unreadable,
        lanes::{EGRESSES, LaneName, decode_key, past},
        meta::{self, Counts, Life},
    },
};

/// The durable store, queues, timers, egress and dead letters of one folder. Cloning is cheap; all clones are the same store.
///
/// A call returns once its change is made and visible; it becomes durable a little later, together with others, in the order
/// in which the changes were made. Nothing may leave the process before [`durable`](Self::durable) says so.
///
/// The last clone to be dropped writes what is left and closes the folder; [`close`](Self::close) also says whether it worked.
#[derive(Clone)]
pub struct Embedded {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

/// What waits for functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Envelopes that are not settled yet, those being run included.
    pub messages: u64,
    /// Their bytes on disk.
    pub bytes: u64,
    /// Lanes that are taken.
    pub running: usize,
    /// Egress records that are not done yet.
    pub egress: u64,
}

impl Embedded {
    /// Opens the state folder `dir`, or makes it. By the wall time of `clock` things are kept until they expire; by its moments lanes pause.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(dir: impl AsRef<Path>, options: Options, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let folder = Folder::take(dir.as_ref())?;
        let disk = open_disk(&folder, &options)?;
        let last = read_life(&folder, &disk)?;
        let mut batch = Batch::default();
        batch.put(Table::Meta, meta::FORMAT_KEY.into(), meta::encode_format(meta::FORMAT), false);
        batch.put(Table::Meta, meta::LIFE.into(), last.next().encode(), false);
        // Durable before anything else happens: should this process die, the next one knows.
        disk.apply(&batch).map_err(|error| folder.disk_error(error))?;
        let state = State {
            log: Log::new(),
            lanes: read_lanes(&disk, &options).map_err(|error| folder.disk_error(error))?,
            heads: Heads::default(),
            counts: read_meta(&folder, &disk, meta::COUNTS, Counts::decode)?.unwrap_or_default(),
            first_due: FirstDue::Unknown(None),
            consumer: Consumer::default(),
            watched: Watched::default(),
            wakes: Wakes::default(),
            waiters: Waiters::default(),
        };
        let files = Files { disk, _lock: folder.lock };
        let shared = Arc::new(Shared::new(state, files, options, clock, last));
        let thread = thread::Builder::new().name("statefun-flush".into());
        let flusher = thread.spawn({
            let shared = shared.clone();
            move || flusher::run(&shared)
        });
        let flusher = flusher.map_err(|source| OpenError::Io { dir: folder.dir, source })?;
        Ok(Self { handle: Arc::new(Handle { shared, flusher: Mutex::new(Some(flusher)) }) })
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Returns once this operation and all before it are on stable storage.
    ///
    /// # Errors
    /// If they are not and never will be: the disk failed, or the store was stopped.
    pub async fn durable(&self, op: Op) -> Result<(), PortError> {
        Durable::new(self.shared(), op.0).await
    }

    /// The last operation so far.
    #[must_use]
    pub fn last_op(&self) -> Op {
        Op(self.shared().lock_always().log.op)
    }

    /// Whether the process that had the folder before ended without closing it: it was killed, it lost power, or it died of
    /// something that is here now, too.
    #[must_use]
    pub fn follows_a_crash(&self) -> bool {
        self.shared().after_crash
    }

    /// What waits now.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let state = self.shared().lock_always();
        let Counts { functions, function_bytes, egress, .. } = state.counts;
        Waiting { messages: functions, bytes: function_bytes, running: state.lanes.running, egress }
    }

    /// Returns once fewer than `envelopes` wait for functions.
    ///
    /// # Errors
    /// If the store is closed or its disk failed.
    pub async fn waiting_below(&self, envelopes: u64) -> Result<(), PortError> {
        self.watch("waiting_below", |state| {
            let reached = state.counts.functions < envelopes;
            if !reached {
                state.watched.below = state.watched.below.max(envelopes);
            }
            reached
        })
        .await
    }

    /// Returns once no envelope waits or runs and no egress record waits. Timers that are not due do not count.
    ///
    /// # Errors
    /// If the store is closed or its disk failed.
    pub async fn idle(&self) -> Result<(), PortError> {
        self.watch("idle", |state| {
            state.watched.idle |= !state.is_idle();
            state.is_idle()
        })
        .await
    }

    async fn watch(&self, call: &'static str, mut reached: impl FnMut(&mut State) -> bool) -> Result<(), PortError> {
        loop {
            let notified = self.shared().progress.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if reached(&mut *self.shared().lock(call)?) {
                return Ok(());
            }
            notified.await;
        }
    }

    /// Writes everything, marks the shutdown as clean and closes the folder, whatever clones there are.
    ///
    /// # Errors
    /// If the disk failed, now or before.
    pub async fn close(self) -> Result<(), PortError> {
        let shared = self.shared();
        let mut published = shared.published.subscribe();
        self.handle.stop(Stop::Clean);
        // The sender lives as long as `self`.
        let _ = published.wait_for(|Published { ended, .. }| *ended).await;
        let state = shared.lock_always();
        match &state.log.down {
            Some(reason) if **reason != *CLOSED => Err(refused("close", reason.to_string())),
            _ => Ok(()),
        }
    }

    /// Stops at once, as a kill would: what is not durable is lost. For tests.
    #[doc(hidden)]
    pub fn abandon(self) {
        self.handle.stop(Stop::Now);
        self.handle.join();
    }

    #[cfg(test)]
    pub(crate) fn fail_disk(&self) {
        let files = self.shared().files.read().unwrap();
        files.as_ref().unwrap().disk.fail.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Handle {
    fn stop(&self, how: Stop) {
        let mut state = self.shared.lock_always();
        if state.log.stop == Stop::No {
            state.log.stop = how;
        }
        drop(state);
        self.shared.work.notify_one();
    }

    fn join(&self) {
        let thread = self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A panic of the flusher was already reported, by the panic itself and to those who waited for it.
        drop(thread.map(JoinHandle::join));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A process that goes down with a panic did not end cleanly.
        self.stop(if thread::panicking() { Stop::Flushed } else { Stop::Clean });
        self.join();
    }
}

fn open_disk(folder: &Folder, options: &Options) -> Result<Disk, OpenError> {
    let open = |path: &Path, verify| Disk::open(path, options.cache_bytes, verify).map_err(|error| folder.disk_error(error));
    if folder.is_new {
        // Made under another name, so that a crash leaves no half of it.
        drop(open(&folder.new_data(), false)?);
        folder.keep_new_data()?;
        return open(&folder.data(), false);
    }
    let metadata = fs::metadata(folder.data()).map_err(|source| OpenError::Io { dir: folder.dir.clone(), source })?;
    open(&folder.data(), metadata.len() <= options.verify_bytes)
}

fn read_life(folder: &Folder, disk: &Disk) -> Result<Life, OpenError> {
    match read_meta(folder, disk, meta::FORMAT_KEY, meta::decode_format)? {
        Some(format) if format > meta::FORMAT => return Err(newer(&folder.dir, format)),
        _ => {}
    }
    let first = Life { clean: true, ..Life::default() };
    Ok(read_meta(folder, disk, meta::LIFE, Life::decode)?.unwrap_or(first))
}

fn read_meta<T>(
    folder: &Folder,
    disk: &Disk,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, Unreadable>,
) -> Result<Option<T>, OpenError> {
    let rows = disk.get(&[(Table::Meta, key)]).map_err(|error| folder.disk_error(error))?;
    let value: Option<Bytes> = rows.into_iter().next().flatten();
    value.map(|value| decode(&value)).transpose().map_err(|error| folder.damaged(error))
}

/// No function lane is held at first: the walk finds them. Egresses are few, so all of their lanes are.
fn read_lanes(disk: &Disk, options: &Options) -> Result<Lanes, DiskError> {
    let mut lanes = Lanes::new(options);
    let mut from = Key::from(EGRESSES.0);
    while let Some((key, _)) = disk.scan(Table::Lanes, &from, Bound::Excluded(&EGRESSES.1), 1, 1)?.rows.pop() {
        match decode_key(&key).map_err(|error| DiskError::Damaged(error.to_string()))?.0 {
            LaneName::Egress(egress) => drop(lanes.egress.insert(egress, Lane::new(true))),
            LaneName::Function(_) => return Err(DiskError::Damaged("a lane in the wrong place".into())),
        }
        from = past(&key);
    }
    Ok(lanes)
}
