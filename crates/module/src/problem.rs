//! What is wrong with a module file, and how that is told.

use std::fmt;

/// Characters of a line that are shown; more of it would not help.
const SHOWN_CHARS: usize = 120;

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
    /// That line.
    pub line: String,
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
    let all: Vec<_> = problems.iter().map(|problem| format!("error: {problem}")).collect();
    all.join("\n\n")
}

impl fmt::Display for Problem {
    /// Several lines, the last without a line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, length } = self.place;
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        // Of a long line a part is shown, in which the place is.
        let before = column - 1;
        let skipped = if before + length.min(SHOWN_CHARS / 2) > SHOWN_CHARS { before - SHOWN_CHARS / 4 } else { 0 };
        let shown: String = self.line.chars().skip(skipped).take(SHOWN_CHARS).map(visible).collect();
        let indent = " ".repeat(before - skipped);
        let carets = "^".repeat(length.clamp(1, SHOWN_CHARS - (before - skipped).min(SHOWN_CHARS - 1)));
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
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn problem(&self, place: Place, message: impl Into<String>) -> Problem {
        let line = self.line(place.line).to_owned();
        let rest = line.trim_end().chars().count().saturating_sub(place.column - 1);
        let place = Place { length: place.length.clamp(1, rest.max(1)), ..place };
        Problem { file: self.file.clone(), place, line, message: message.into(), help: None }
    }

    /// A line by its number, without its end.
    pub(crate) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or("")
    }
}

impl Problem {
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = self.help.or(help);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize, length: usize) -> String {
        let source = Source { file: "m.yaml".into(), text: text.into() };
        source.problem(Place { line, column, length }, "wrong").help("do right").to_string()
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
}
