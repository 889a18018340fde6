//! How far the job is, on the standard error: one line that changes on a terminal, a line now and then elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use flights::local::Progress;

/// Between two lines where they stay.
const LINE_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct Shown {
    terminal: bool,
    began: Instant,
    last: Instant,
}

impl Shown {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { terminal: io::stderr().is_terminal(), began: now, last: now }
    }

    /// Shows how far the job is. If nobody can see it, nothing is lost.
    pub(crate) fn show(&mut self, progress: &Progress) {
        let line = line(progress, self.began.elapsed());
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        } else if self.last.elapsed() >= LINE_EVERY {
            self.last = Instant::now();
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Clears the line.
    pub(crate) fn end(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(progress: &Progress, took: Duration) -> String {
    let Progress { file, messages, waiting } = progress;
    let percent = file.total.filter(|total| *total > 0).map_or(0, |total| 100 * file.bytes / total);
    let per_second = *messages as f64 / took.as_secs_f64().max(0.001);
    let bad = if file.rejected > 0 { format!(", {} unreadable", file.rejected) } else { String::new() };
    format!("{percent:3} %  {} rows{bad}  {messages} messages, {per_second:.0}/s  {waiting} waiting", file.rows)
}

#[cfg(test)]
mod tests {
    use lambda_statefun::local::FileProgress;

    use super::*;

    #[test]
    fn a_line_says_how_far_it_is() {
        let file = FileProgress { bytes: 50, total: Some(200), rows: 10, rejected: 1 };
        let progress = Progress { file, messages: 40, waiting: 3 };
        let text = line(&progress, Duration::from_secs(2));
        assert_eq!(text, " 25 %  10 rows, 1 unreadable  40 messages, 20/s  3 waiting");
    }
}
