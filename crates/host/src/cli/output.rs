//! What commands print: results on the standard output, everything else on the standard error.

use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::{filter::Targets, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{error::HostError, input::FileProgress};

/// Writes a result. A reader that has seen enough (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<(), HostError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(HostError::Io { what: "cannot write to the standard output".to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Rows in columns as wide as need be; the last one is as long as it is.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A cell's text on one line, cut to a readable length.
pub(super) fn cell(text: &str, length: usize) -> String {
    let line: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    match line.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The standard error, shared by log lines and a progress bar.
#[derive(Clone)]
pub(super) struct Terminal(MultiProgress);

impl Terminal {
    pub(super) fn new() -> Self {
        let target =
            if io::stderr().is_terminal() { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        Self(MultiProgress::with_draw_target(target))
    }

    /// Log lines go to the standard error from now on; does nothing if the program has set up its own.
    pub(super) fn log(&self, filter: Targets) {
        let lines = tracing_subscriber::fmt::layer().with_writer(self.clone()).with_ansi(io::stderr().is_terminal());
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    }

    /// Shows how far an input was read.
    pub(super) fn progress(&self) -> impl Fn(&FileProgress) + Send + Sync + use<> {
        let bar = self.0.add(ProgressBar::no_length());
        move |progress: &FileProgress| {
            if bar.length() != progress.total || bar.position() == 0 {
                show_as(&bar, progress.total);
            }
            bar.set_position(progress.bytes);
            let rejected = if progress.rejected > 0 { format!(", {} rejected", progress.rejected) } else { String::new() };
            bar.set_message(format!("{} rows{rejected}", progress.rows));
            if progress.total.is_some_and(|total| progress.bytes >= total) {
                bar.finish();
            }
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

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_are_short() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), "22".to_owned()]];
        assert_eq!(table(&rows), "a     1\nlong  22\n");
        assert_eq!(cell("a\nb", 9), "a b");
        assert_eq!(cell("äöüß", 2), "äö…");
    }
}
