//! The header of a CSV input: names of fields, and which of them are text.

use std::io::Read;

use statefun_core::nearest;

use super::{
    Mapping,
    mapping::Resolved,
    row::{RowReader, flawed},
    split::{Found, Splitter},
};
use crate::error::InputError;

/// A header that fits the mapping.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) names: csv::StringRecord,
    /// Per field: whether it is text, whatever it looks like.
    text: Vec<bool>,
}

impl Header {
    pub(super) fn is_text(&self, index: usize) -> bool {
        self.text.get(index).is_some_and(|text| *text)
    }
}

/// What a mapping needs of a header.
#[derive(Debug, Clone)]
pub(super) struct Needs {
    id: Option<String>,
    text: Vec<String>,
}

impl Needs {
    /// Columns of these names, which are text.
    pub(super) fn text(columns: &[String]) -> Self {
        Self { id: None, text: columns.to_vec() }
    }

    pub(super) fn of(mapping: &Mapping, resolved: &Resolved) -> Self {
        let text = mapping.text().iter().chain(resolved.text_columns()).cloned().collect();
        Self { id: mapping.id_field().map(str::to_owned), text }
    }
}

/// Reads the header of a CSV input, and checks that the fields that are needed are in it, each once.
pub(super) fn read_header<R: Read>(
    name: &str,
    splitter: &mut Splitter<R>,
    rows: &mut RowReader,
    needs: &Needs,
) -> Result<Header, InputError> {
    let problem = |problem: String| InputError::Header { name: name.to_owned(), problem };
    let names = loop {
        match splitter.next() {
            Found::Row(raw) => match raw.flaw {
                Some(flaw) => {
                    return Err(problem(format!(
                        "line {}: its header cannot be read: {}",
                        raw.place.line,
                        flawed(flaw, raw.bytes.len())
                    )));
                }
                None => break rows.csv(raw.bytes).map_err(|error| problem(format!("its header is {error}")))?,
            },
            Found::NeedsInput => splitter.fill().map_err(|source| InputError::Read { name: name.to_owned(), source })?,
            Found::End => return Err(problem("it is empty; CSV begins with a header".to_owned())),
        }
    };
    check(&names, needs).map_err(problem)?;
    let text = names.iter().map(|field| needs.text.iter().any(|text| text == field)).collect();
    Ok(Header { names, text })
}

fn check(names: &csv::StringRecord, needs: &Needs) -> Result<(), String> {
    for field in needs.id.iter().chain(&needs.text) {
        if !names.iter().any(|name| name == field) {
            let hint = nearest(field, names.iter()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let fields: Vec<_> = names.iter().collect();
            return Err(format!("its header has no field `{field}`{hint} It has: {}", fields.join(", ")));
        }
    }
    let mut sorted: Vec<_> = names.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("its header has the field `{}` twice: which one counts is not clear", pair[0])),
        None => Ok(()),
    }
}

#[cfg(test)]
impl From<csv::StringRecord> for Header {
    fn from(names: csv::StringRecord) -> Self {
        Self { names, text: Vec::new() }
    }
}
