//! A single-threaded executor with a virtual clock. Tasks belong to environments; a killed environment's tasks are dropped.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// An incarnation of an environment; the world outside of all of them is [`WORLD`].
pub(crate) type EnvId = u64;

/// Tasks that nothing kills.
pub(crate) const WORLD: EnvId = 0;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A handle to the executor; clones are the same one.
#[derive(Clone)]
pub(crate) struct Executor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ready: Mutex<VecDeque<u64>>,
}

#[derive(Default)]
struct State {
    now: u64,
    count: u64,
    alarms: BinaryHeap<Reverse<(u64, u64)>>,
    sleepers: BTreeMap<u64, Waker>,
    spawned: Vec<(u64, EnvId, Task)>,
    killed: Vec<EnvId>,
}

struct TaskWaker {
    shared: Arc<Shared>,
    task: u64,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.shared.ready).push_back(self.task);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Steps of a run.
const MAX_STEPS: u32 = 600_000;

impl Executor {
    /// An executor whose clock begins at this time.
    pub(crate) fn starting(now: u64) -> Self {
        let executor = Self(Arc::default());
        lock(&executor.0.state).now = now;
        executor
    }

    /// Milliseconds of virtual time.
    pub(crate) fn now(&self) -> u64 {
        lock(&self.0.state).now
    }

    /// Starts a task of an environment.
    pub(crate) fn spawn(&self, env: EnvId, task: impl Future<Output = ()> + Send + 'static) {
        let mut state = lock(&self.0.state);
        state.count += 1;
        let id = state.count;
        state.spawned.push((id, env, Box::pin(task)));
        drop(state);
        lock(&self.0.ready).push_back(id);
    }

    /// Runs a task of an environment and returns what it comes to; `None` if the environment is killed before.
    pub(crate) async fn run_in<T: Send + 'static>(
        &self,
        env: EnvId,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (end, ended) = futures_channel::oneshot::channel();
        // Whoever waits no longer does not need it.
        self.spawn(env, async move { _ = end.send(task.await) });
        ended.await.ok()
    }

    /// Drops all tasks of an environment before anything else runs.
    pub(crate) fn kill(&self, env: EnvId) {
        lock(&self.0.state).killed.push(env);
    }

    /// Returns at virtual time `at`.
    pub(crate) fn sleep_until(&self, at: u64) -> impl Future<Output = ()> + Send + use<> {
        Sleep { executor: self.clone(), at, alarm: None }
    }

    /// Returns after `millis`.
    pub(crate) fn sleep(&self, millis: u64) -> impl Future<Output = ()> + Send + use<> {
        self.sleep_until(self.now() + millis)
    }

    /// Runs until virtual time `end`; `false` if that takes more steps than anything that works.
    pub(crate) fn run(&self, end: u64) -> bool {
        let mut tasks: BTreeMap<u64, (EnvId, Task)> = BTreeMap::new();
        for _ in 0..MAX_STEPS {
            self.settle(&mut tasks);
            let next = lock(&self.0.ready).pop_front();
            if let Some(id) = next {
                let Some((_, task)) = tasks.get_mut(&id) else { continue };
                let waker = Waker::from(Arc::new(TaskWaker { shared: self.0.clone(), task: id }));
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    tasks.remove(&id);
                }
                continue;
            }
            let mut state = lock(&self.0.state);
            match state.alarms.pop() {
                Some(Reverse((at, alarm))) if at <= end => {
                    state.now = state.now.max(at);
                    let sleeper = state.sleepers.remove(&alarm);
                    drop(state);
                    sleeper.into_iter().for_each(Waker::wake);
                }
                _ => {
                    state.now = end;
                    return true;
                }
            }
        }
        false
    }

    fn settle(&self, tasks: &mut BTreeMap<u64, (EnvId, Task)>) {
        let mut state = lock(&self.0.state);
        let (spawned, killed) = (std::mem::take(&mut state.spawned), std::mem::take(&mut state.killed));
        drop(state);
        tasks.extend(spawned.into_iter().map(|(id, env, task)| (id, (env, task))));
        if !killed.is_empty() {
            tasks.retain(|_, (env, _)| !killed.contains(env));
        }
    }
}

struct Sleep {
    executor: Executor,
    at: u64,
    alarm: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let executor = self.executor.clone();
        let mut state = lock(&executor.0.state);
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let alarm = match self.alarm {
            Some(alarm) => alarm,
            None => {
                state.count += 1;
                let alarm = state.count;
                state.alarms.push(Reverse((self.at, alarm)));
                alarm
            }
        };
        state.sleepers.insert(alarm, context.waker().clone());
        drop(state);
        self.alarm = Some(alarm);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm {
            lock(&self.executor.0.state).sleepers.remove(&alarm);
        }
    }
}
