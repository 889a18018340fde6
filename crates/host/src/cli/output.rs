//! What commands print as their results, on the standard output.

use std::io::{self, Write};

use crate::error::HostError;

/// Writes a result. A reader that has seen enough (`| head`) is not an error.
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
