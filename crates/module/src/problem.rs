//! What is wrong with a module file, and how that is reported.

use std::fmt;

use statefun_core::paragraphs;

/// Bytes of a module file. Beyond this it is not a module file.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Problems of one report. A file with more begins with these.
pub(crate) const MAX_PROBLEMS: usize = 100;

/// Characters of a line that are shown; more of it would not help.
const SHOWN_CHARS: usize = 120;

/// Bytes of a message or a help: they may name what stands in the file, and that may be long.
const MAX_TEXT_BYTES: usize = 1_024;

/// A place in a file. Lines and columns are counted from 1, columns and lengths in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The first character.
    pub column: usize,
    /// How many characters are meant, all in this line; at least 1.
    pub length: usize,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as its name was given.
    pub file: String,
    /// Where.
    pub place: Place,
    /// That line; of a long one the part in which the place is.
    pub line: String,
    /// Characters of the line before that part.
    skipped: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Everything that is wrong with a module file, in the file's order. Shown as `rustc` shows errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", report(problems))]
pub struct InvalidModule {
    /// The mistakes, at least one.
    pub problems: Vec<Problem>,
}

fn report(problems: &[Problem]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    paragraphs("error: ", &problems)
}

impl fmt::Display for Problem {
    /// Several lines, the last without a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, length } = self.place;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let shown: String = self.line.chars().map(visible).collect();
        let before = column - 1 - self.skipped;
        let indent = " ".repeat(before);
        let carets = "^".repeat(length.clamp(1, SHOWN_CHARS - before.min(SHOWN_CHARS - 1)));
        let help = self.help.as_ref().map_or_else(String::new, |help| format!(" {help}"));
        writeln!(f, "{}", self.message)?;
        writeln!(f, "{margin}--> {}:{line}:{column}", self.file)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", shown.trim_end())?;
        write!(f, "{margin} | {indent}{carets}{help}")
    }
}

/// Characters that would move what is below out of place, or do worse to a terminal.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        control if control.is_control() => '\u{fffd}',
        other => other,
    }
}

/// A file's name and text, to make problems of places.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) text: String,
}

/// A mistake as it is noted. There may be as many as there are values in the file: lines are shown of those that are reported.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    place: Place,
    message: String,
    help: Option<String>,
}

impl Finding {
    pub(crate) fn new(place: Place, message: impl Into<String>, help: Option<String>) -> Self {
        Self { place, message: short(message.into()), help: help.map(short) }
    }
}

fn short(text: String) -> String {
    match text.len() > MAX_TEXT_BYTES {
        true => format!("{}…", &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]),
        false => text,
    }
}

impl Source {
    /// The text of a file.
    ///
    /// # Errors
    /// If nothing can be said of it: it is too long, or not UTF-8.
    pub(crate) fn new(file: &str, bytes: &[u8]) -> Result<Self, InvalidModule> {
        let source = |bytes: &[u8]| Self { file: file.to_owned(), text: String::from_utf8_lossy(bytes).into_owned() };
        if bytes.len() > MAX_FILE_BYTES {
            let place = Place { line: 1, column: 1, length: 1 };
            let message = format!("the file has {} bytes, at most {MAX_FILE_BYTES} are read", bytes.len());
            source(&bytes[..MAX_FILE_BYTES]).valid(vec![Finding::new(place, message, None)])?;
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let source = source(bytes);
        if let Err(error) = std::str::from_utf8(bytes) {
            let before = &source.text[..error.valid_up_to()];
            let start = before.rfind('\n').map_or(0, |end| end + 1);
            let line = before.matches('\n').count() + 1;
            let place = Place { line, column: before[start..].chars().count() + 1, length: 1 };
            source.valid(vec![Finding::new(place, "the file is not UTF-8 from here on", Some("save it as UTF-8".to_owned()))])?;
        }
        Ok(source)
    }

    /// The findings as they are reported, if there are any: the first of them, in the file's order.
    pub(crate) fn valid(&self, mut findings: Vec<Finding>) -> Result<(), InvalidModule> {
        if findings.is_empty() {
            return Ok(());
        }
        findings.sort_by_key(|finding| finding.place);
        findings.truncate(MAX_PROBLEMS);
        Err(InvalidModule { problems: findings.into_iter().map(|finding| self.problem(finding)).collect() })
    }

    fn problem(&self, Finding { place, message, help }: Finding) -> Problem {
        let line = self.line(place.line);
        let before = place.column - 1;
        let rest = line.trim_end().chars().count().saturating_sub(before);
        let place = Place { length: place.length.clamp(1, rest.max(1)), ..place };
        let skipped = if before + place.length.min(SHOWN_CHARS / 2) > SHOWN_CHARS { before - SHOWN_CHARS / 4 } else { 0 };
        let line = line.chars().skip(skipped).take(SHOWN_CHARS).collect();
        Problem { file: self.file.clone(), place, line, skipped, message, help }
    }

    /// A line by its number, without its end.
    pub(crate) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize, length: usize) -> String {
        let source = Source { file: "m.yaml".into(), text: text.into() };
        source.problem(Finding::new(Place { line, column, length }, "wrong", Some("do right".into()))).to_string()
    }

    #[test]
    fn carets_stand_below_what_is_meant() {
        let text = format!("{}  käy: x\n", "\n".repeat(9));
        assert_eq!(shown(&text, 10, 3, 3), "wrong\n  --> m.yaml:10:3\n   |\n10 |   käy: x\n   |   ^^^ do right");
        assert_eq!(shown("a\tb\u{7}", 1, 3, 9), "wrong\n --> m.yaml:1:3\n  |\n1 | a b\u{fffd}\n  |   ^^ do right");
    }

    #[test]
    fn of_long_lines_the_part_with_the_place_is_shown() {
        let text = format!("{}here{}", "x".repeat(5_000), "y".repeat(5_000));
        let shown = shown(&text, 1, 5_001, 4);
        let lines: Vec<_> = shown.lines().collect();
        let at = lines[4].find('^').unwrap();
        assert_eq!(&lines[3][at..at + 4], "here");
        assert!(lines.iter().all(|line| line.len() < 140), "{shown}");
    }

    #[test]
    fn what_is_told_is_short() {
        let source = Source { file: "m.yaml".into(), text: "ä".repeat(100_000) };
        let place = |column| Place { line: 1, column, length: 1 };
        let finding = |column| Finding::new(place(column), "ä".repeat(100_000), Some("ö".repeat(100_000)));
        let problems = source.valid((1..=2_000).rev().map(finding).collect()).unwrap_err().problems;
        assert_eq!((problems.len(), problems[99].place), (MAX_PROBLEMS, place(100)));
        assert!(
            problems.iter().all(|problem| problem.line.len() <= 2 * SHOWN_CHARS && problem.message.len() <= MAX_TEXT_BYTES + 3)
        );
        assert!(problems[0].help.as_ref().is_some_and(|help| help.ends_with("ö…")));
    }
}
