//! The words of this repository: what its documentation, help, errors and comments do not say.
//!
//! Each rule is a habit that makes English hard to read for those who grew up with it, and the word to use instead.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What to write instead of a phrase; `None` if it is fine.
type Rule = fn(&[&str], usize) -> Option<&'static str>;

const RULES: &[Rule] = &[mend, tell, is_no, ones_own];

fn mend(words: &[&str], at: usize) -> Option<&'static str> {
    ["mend", "mends", "mended", "mending"].contains(&words[at]).then_some("fix")
}

/// To tell apart, and to tell somebody to do something, are fine.
fn tell(words: &[&str], at: usize) -> Option<&'static str> {
    let rest = &words[at + 1..words.len().min(at + 12)];
    let goes_on = |word: &&str| ["apart", "from", "to"].contains(word);
    match words[at] {
        "tells" if !rest.iter().any(goes_on) => Some("report"),
        "told" if !rest.iter().take(2).any(goes_on) => Some("report"),
        _ => None,
    }
}

/// "It is no error"; not "there is no error", "it is no longer".
fn is_no(words: &[&str], at: usize) -> Option<&'static str> {
    let is = ["is", "are", "was", "were"].contains(&words[at]) && words.get(at + 1) == Some(&"no");
    let there = at > 0 && ["there", "here", "whether", "if"].contains(&words[at - 1]);
    let more = words.get(at + 2).is_none_or(|word| ["longer", "more", "less", "later", "matter", "way", "worse"].contains(word));
    (is && !there && !more).then_some("is not a")
}

fn ones_own(words: &[&str], at: usize) -> Option<&'static str> {
    let this = at > 0 && ["this", "that", "bad", "other", "new", "old"].contains(&words[at - 1]);
    (words[at] == "one's" && !this).then_some("your")
}

/// What people read of a line: all of it, or of Rust comments and strings.
fn prose(path: &Path, line: &str) -> String {
    if path.extension().is_none_or(|extension| extension != "rs") {
        return line.to_owned();
    }
    let (mut found, mut rest) = (String::new(), line);
    while let Some(place) = rest.find(['"', '/']) {
        if rest[place..].starts_with("//") {
            found.push_str(&rest[place..]);
            return found;
        }
        let begins = rest[place..].starts_with('"');
        rest = &rest[place + 1..];
        if begins {
            let end = rest.match_indices('"').find(|(end, _)| !rest[..*end].ends_with('\\')).map_or(rest.len(), |(end, _)| end);
            found.push_str(&rest[..end]);
            found.push(' ');
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    found
}

fn faults(path: &Path, line: &str) -> Vec<String> {
    let prose = prose(path, line).to_lowercase();
    // A name in backquotes or braces is a name.
    let words: Vec<&str> =
        prose.split(|c: char| !(c.is_alphanumeric() || "'_`{}".contains(c))).filter(|word| !word.is_empty()).collect();
    let fault = |at: usize| RULES.iter().find_map(|rule| rule(&words, at)).map(|instead| format!("`{}`: {instead}", words[at]));
    (0..words.len()).filter_map(fault).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "data", "corpus", "golden"].contains(&&*name) {
                files(&path, found);
            }
        } else if ["md", "rs", "yaml", "py", "toml"].iter().any(|ending| path.extension().is_some_and(|has| has == *ending)) {
            found.push(path);
        }
    }
}

#[test]
fn nobody_writes_as_if_translating() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    files(root, &mut all);
    assert!(all.len() > 300, "{}", all.len());
    let mut found = Vec::new();
    for path in all.iter().filter(|path| !path.ends_with(file!().rsplit('/').next().unwrap_or_default())) {
        for (number, line) in fs::read_to_string(path).unwrap_or_default().lines().enumerate() {
            let place = format!("{}:{}", path.strip_prefix(root).unwrap().display(), number + 1);
            found.extend(faults(path, line).into_iter().map(|fault| format!("{place}: {fault}")));
        }
    }
    assert!(found.is_empty(), "write what stands behind the colon instead:\n{}", found.join("\n"));
}

#[test]
fn the_rules_know_good_from_bad() {
    let bad = |line: &str| faults(Path::new("x.md"), line);
    for line in ["Mend the input.", "It tells what is there.", "All are told.", "That is no error.", "a router of one's own"] {
        assert_eq!(bad(line).len(), 1, "{line}");
    }
    for line in [
        "There is no error, and it is no longer there.",
        "It tells one from the other, and is told to stop.",
        "Only the ledger can tell.",
        "`told` is a name.",
        "the bad one's",
    ] {
        assert!(bad(line).is_empty(), "{line}: {:?}", bad(line));
    }
    let code = |line: &str| faults(Path::new("x.rs"), line);
    assert!(code("let told = mend(1);").is_empty());
    assert_eq!((code("let x = \"is \\\" told\"; // mended").len(), code("foo(); /// mended").len()), (2, 1));
}
