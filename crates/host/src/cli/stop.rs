//! When a command ends: on a signal, and at once on a second one; at the latest when its stop has taken all of its time.

use std::{process, sync::mpsc, thread, time::Duration};

use tokio::{runtime::Handle, sync::watch};

use super::terminal::Terminal;
use crate::error::HostError;

/// The exit code of a process that was interrupted (128 and SIGINT).
const INTERRUPTED: i32 = 130;

/// How much longer than the time for handlers a stop may take.
const GRACE: Duration = Duration::from_secs(1);

/// The command is to stop, or is stopping already.
#[derive(Clone)]
pub(super) struct Stopping {
    stopping: watch::Sender<bool>,
    terminal: Terminal,
}

impl Stopping {
    /// Listens to signals on a runtime that nothing else holds up.
    pub(super) fn on_signals(runtime: &Handle, terminal: Terminal) -> Self {
        let stopping = Self { stopping: watch::Sender::new(false), terminal };
        let stop = stopping.clone();
        runtime.spawn(async move {
            let mut signals = signals::Signals::listen();
            loop {
                signals.next().await;
                if stop.stopping.send_replace(true) {
                    process::exit(INTERRUPTED);
                }
                tracing::info!("stopping: running handlers are awaited; once more Ctrl-C quits at once");
            }
        });
        stopping
    }

    /// Returns on the first signal.
    pub(super) async fn asked(&self) {
        // The sender lives as long as `self`.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// The stop begins, whatever the reason: the next signal ends the process, and so does the end of this time. Dropped, the time is no
    /// longer looked at.
    pub(super) fn begins(&self, handlers: Duration) -> OutOfTime {
        self.stopping.send_replace(true);
        let (sender, ended) = mpsc::channel::<()>();
        let terminal = self.terminal.clone();
        let watch = move || {
            if ended.recv_timeout(handlers + GRACE) == Err(mpsc::RecvTimeoutError::Timeout) {
                terminal.flush();
                let late = HostError::Stopped("it did not stop in time".to_owned());
                late.report();
                process::exit(late.exit_code().into());
            }
        };
        // Without the thread it stops all the same, unless something hangs.
        let _ = thread::Builder::new().name("statefun-stop".into()).spawn(watch);
        OutOfTime(sender)
    }
}

/// Ends the process when its time is over, unless it is dropped before.
pub(super) struct OutOfTime(#[expect(dead_code, reason = "the other end notices that it is gone")] mpsc::Sender<()>);

#[cfg(unix)]
mod signals {
    use std::{future::poll_fn, task::Poll};

    use tokio::signal::unix::{Signal, SignalKind, signal};

    pub(super) struct Signals(Vec<Signal>);

    /// Whether the end of the terminal is to end the process, too: not if it was started with `nohup`. Where that is not known, the system
    /// does what it does.
    fn hangs_up() -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
        ignored.is_some_and(|ignored| ignored & HANGUP_BIT == 0)
    }

    /// SIGHUP is 1, the lowest bit.
    const HANGUP_BIT: u64 = 1;

    impl Signals {
        pub(super) fn listen() -> Self {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
            let hangup = hangs_up().then(SignalKind::hangup);
            Self(kinds.into_iter().chain(hangup).filter_map(|kind| signal(kind).ok()).collect())
        }

        pub(super) async fn next(&mut self) {
            poll_fn(|context| match self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }
    }
}

#[cfg(not(unix))]
mod signals {
    pub(super) struct Signals;

    impl Signals {
        pub(super) fn listen() -> Self {
            Self
        }

        pub(super) async fn next(&mut self) {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
