//! `${NAME}` in texts.

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Variable(&'a str),
}

/// Cuts a text into its pieces. `$${` is a literal `${`; any other `$` is itself.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            pieces.push(Piece::Text(&rest[..at - 1]));
            pieces.push(Piece::Text("${"));
            rest = &rest[at + 2..];
            continue;
        }
        let after = &rest[at + 2..];
        let Some(end) = after.find('}') else {
            return Err("`${` without `}`; a literal `${` is written `$${`".to_owned());
        };
        let name = &after[..end];
        if !is_name(name) {
            return Err(format!("`${{{name}}}` does not name an environment variable: letters, digits and `_`, no digit first"));
        }
        pieces.push(Piece::Text(&rest[..at]));
        pieces.push(Piece::Variable(name));
        rest = &after[end + 1..];
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.starts_with(|first: char| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::Piece::{Text, Variable};
    use super::*;

    #[test]
    fn variables_and_literals() {
        assert_eq!(pieces("").unwrap(), []);
        assert_eq!(pieces("plain $ {x} $").unwrap(), [Text("plain $ {x} $")]);
        assert_eq!(pieces("a${B_1}c${D}").unwrap(), [Text("a"), Variable("B_1"), Text("c"), Variable("D")]);
        assert_eq!(pieces("$${A}${B}").unwrap(), [Text("${"), Text("A}"), Variable("B")]);
        for bad in ["${", "${}", "${a", "x${1A}", "${A-B}", "${A B}"] {
            assert!(pieces(bad).is_err(), "{bad}");
        }
    }
}
