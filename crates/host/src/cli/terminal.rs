//! The standard error, with log lines and a progress bar. A thread of its own writes, so that nobody waits for a terminal that is stopped
//! or a pipe that nobody reads, and nobody fails with one that is closed: what is printed can be lost without consequence.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use tracing_subscriber::{Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::input::FileProgress;

/// What may wait to be written; beyond that, lines are dropped and counted.
const WAITING: usize = 4_096;

/// How long the end of a command waits until what it said is written.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Draws of the progress bar per second.
const DRAWS: u8 = 5;

enum Said {
    Line(Vec<u8>),
    Progress(FileProgress),
    /// All before this is written.
    Mark(SyncSender<()>),
}

/// Cheap to clone; all clones are one terminal.
#[derive(Clone)]
pub(super) struct Terminal {
    said: SyncSender<Said>,
    lost: Arc<AtomicU64>,
}

impl Terminal {
    pub(super) fn new() -> Self {
        let (said, to_write) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { lost: lost.clone(), bars: MultiProgress::with_draw_target(target()), bar: None };
        // Without a thread nothing is printed, and all else goes on.
        let _ = thread::Builder::new().name("statefun-log".into()).spawn(move || writer.run(&to_write));
        Self { said, lost }
    }

    /// Log lines go to the standard error from now on; does nothing if the program has set up its own.
    pub(super) fn log(&self, filter: Targets) {
        let lines = tracing_subscriber::fmt::layer().with_writer(self.clone()).with_ansi(io::stderr().is_terminal());
        let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    }

    /// Shows how far an input was read.
    pub(super) fn progress(&self) -> impl Fn(&FileProgress) + Send + Sync + use<> {
        let said = self.said.clone();
        move |progress: &FileProgress| {
            // The next one says more.
            let _ = said.try_send(Said::Progress(*progress));
        }
    }

    /// Returns once what was said is written, or cannot be.
    pub(super) fn flush(&self) {
        let (mark, written) = sync_channel(1);
        let until = Instant::now() + LAST_WORDS;
        let mut mark = Said::Mark(mark);
        while let Err(TrySendError::Full(back)) = self.said.try_send(mark) {
            if Instant::now() >= until {
                return;
            }
            mark = back;
            thread::sleep(Duration::from_millis(5));
        }
        while written.recv_timeout(until.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout) {
            if Instant::now() >= until {
                return;
            }
        }
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.said.try_send(Said::Line(bytes.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        // It counts as written in any case: the log would else report the failure where that fails, too.
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The thread that writes.
struct Writer {
    lost: Arc<AtomicU64>,
    bars: MultiProgress,
    bar: Option<ProgressBar>,
}

impl Writer {
    fn run(mut self, said: &Receiver<Said>) {
        for said in said {
            match said {
                Said::Line(bytes) => self.line(&bytes),
                Said::Progress(progress) => self.show(&progress),
                Said::Mark(mark) => drop(mark.try_send(())),
            }
        }
    }

    fn line(&self, bytes: &[u8]) {
        self.bars.suspend(|| {
            let mut stderr = io::stderr();
            let lost = self.lost.swap(0, Ordering::Relaxed);
            // Whoever closed it reads neither.
            if lost > 0 {
                let _ = writeln!(stderr, "{lost} lines of the log are lost: they came faster than they were read");
            }
            let _ = stderr.write_all(bytes);
        });
    }

    fn show(&mut self, progress: &FileProgress) {
        let bar = self.bar.get_or_insert_with(|| self.bars.add(ProgressBar::no_length()));
        if bar.length() != progress.total || bar.position() == 0 {
            show_as(bar, progress.total);
        }
        bar.set_position(progress.bytes);
        let rejected = if progress.rejected > 0 { format!(", {} rejected", progress.rejected) } else { String::new() };
        bar.set_message(format!("{} rows{rejected}", progress.rows));
        if progress.total.is_some_and(|total| progress.bytes >= total) {
            bar.finish();
        }
    }
}

fn show_as(bar: &ProgressBar, total: Option<u64>) {
    let template = if total.is_some() { "{bar:30} {percent:>3}%  {msg}  {eta} left" } else { "{spinner} {msg}" };
    if let Some(total) = total {
        bar.set_length(total);
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

fn target() -> ProgressDrawTarget {
    match io::stderr().is_terminal() {
        true => ProgressDrawTarget::term_like_with_hz(Box::new(Quiet(Term::buffered_stderr())), DRAWS),
        false => ProgressDrawTarget::hidden(),
    }
}

/// A terminal that may be gone: the bar panics where a draw fails.
#[derive(Debug)]
struct Quiet(Term);

fn quiet(_: io::Result<()>) -> io::Result<()> {
    Ok(())
}

impl TermLike for Quiet {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        quiet(self.0.move_cursor_up(lines))
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        quiet(self.0.move_cursor_down(lines))
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        quiet(self.0.move_cursor_right(columns))
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        quiet(self.0.move_cursor_left(columns))
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        quiet(self.0.write_line(line))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        quiet(self.0.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        quiet(self.0.clear_line())
    }

    fn flush(&self) -> io::Result<()> {
        quiet(self.0.flush())
    }
}
