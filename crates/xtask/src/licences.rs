//! Every dependency's licence is one that an Apache-2.0 project can ship. Works offline, from `cargo metadata`.

use crate::run::metadata;

const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(crate) fn check() -> Result<(), String> {
    let metadata = metadata(&["--locked"])?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let bad: Vec<String> = packages
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or_default()))
        .map(|package| format!("{} {}: licence {}", package["name"], package["version"], package["license"]))
        .collect();
    if bad.is_empty() {
        println!("{} packages, all under permissive licences", packages.len());
        return Ok(());
    }
    Err(bad.join("\n"))
}

/// Whether an SPDX expression of `OR`, `AND`, `WITH` and parentheses can be met with allowed licences.
fn is_allowed(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ");
    alternatives(&flat).iter().any(|choice| conjuncts(choice).iter().all(|part| ALLOWED.contains(part) || nested(part)))
}

fn nested(part: &str) -> bool {
    part.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).is_some_and(is_allowed)
}

fn alternatives(expression: &str) -> Vec<&str> {
    split(expression, " OR ")
}

fn conjuncts(expression: &str) -> Vec<&str> {
    split(expression, " AND ")
}

/// Splits at a separator that is not inside parentheses.
fn split<'a>(expression: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && index >= start && expression[index..].starts_with(separator) => {
                parts.push(expression[start..index].trim());
                start = index + separator.len();
            }
            _ => {}
        }
    }
    parts.push(expression[start..].trim());
    parts
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND AGPL-3.0", "MPL-2.0"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
