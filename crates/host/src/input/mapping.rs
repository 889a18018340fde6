//! From a row to messages.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use statefun_core::{
    Address, FunctionSpec, TypeName, TypedValue, Value,
    limits::{MAX_ENVELOPE_BYTES, MAX_ENVELOPE_MESSAGES},
    wire_bytes,
};
use statefun_engine::Functions;

use super::row::Row;
use crate::{
    accept::{Form, check, find, message, only_json},
    error::{InputError, Refusal},
};

/// Bytes of all messages of a row: they may all go to one address, in one envelope. The rest is for what is around them.
const MAX_ROW_WIRE_BYTES: usize = MAX_ENVELOPE_BYTES - (16 << 10);

type RowFn = dyn Fn(&Row<'_>) -> Result<Vec<(Address, TypedValue)>, String> + Send + Sync;

/// Says which messages a row becomes.
#[derive(Clone)]
pub struct Mapping(Kind);

#[derive(Clone)]
enum Kind {
    Rows(Arc<RowFn>),
    Field { function: TypeName, id: String, type_name: Option<TypeName> },
}

impl Mapping {
    /// Messages as `map` makes them of a row; all messages of a row to one address travel together, in their order. An error
    /// (or a panic) sends the row to the dead letters. The same row must always become the same messages.
    pub fn rows(map: impl Fn(&Row<'_>) -> Result<Vec<(Address, TypedValue)>, String> + Send + Sync + 'static) -> Self {
        Self(Kind::Rows(Arc::new(map)))
    }

    /// One message a row: the row as JSON, to `function`, at the id that stands in the field `id`. Its type is the function's only
    /// JSON type.
    #[must_use]
    pub fn field(function: TypeName, id: impl Into<String>) -> Self {
        Self(Kind::Field { function, id: id.into(), type_name: None })
    }

    /// For [`field`](Self::field): the message's type. `io.statefun.types/string` holds the JSON text as a string.
    #[must_use]
    pub fn with_type(mut self, name: TypeName) -> Self {
        if let Kind::Field { type_name, .. } = &mut self.0 {
            *type_name = Some(name);
        }
        self
    }

    /// The field that must be in a CSV header.
    pub(super) fn id_field(&self) -> Option<&str> {
        match &self.0 {
            Kind::Rows(_) => None,
            Kind::Field { id, .. } => Some(id),
        }
    }

    /// Looks up what the mapping names.
    ///
    /// # Errors
    /// If the application has no such function, or it does not take JSON of that type.
    pub(crate) fn resolve(&self, functions: &Functions) -> Result<Resolved, InputError> {
        let how = match &self.0 {
            Kind::Rows(map) => How::Rows(map.clone()),
            Kind::Field { function, id, type_name } => {
                let found = find(functions, function.as_str()).map_err(|error| InputError::Mapping(error.to_string()))?;
                let spec = found.spec.clone();
                let type_name = match type_name {
                    Some(name) => explicit(&spec, name)?,
                    None => only_json(&spec).map_err(|refusal| InputError::Mapping(advice(&refusal)))?.type_name.clone(),
                };
                How::Field { spec, id: id.clone(), type_name }
            }
        };
        Ok(Resolved { functions: functions.clone(), how })
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Rows(_) => f.write_str("Mapping::rows(..)"),
            Kind::Field { function, id, type_name } => {
                f.debug_tuple("Mapping::field").field(function).field(id).field(type_name).finish()
            }
        }
    }
}

fn explicit(spec: &FunctionSpec, name: &TypeName) -> Result<TypeName, InputError> {
    let accepted = spec.accepts.iter().find(|accepted| accepted.type_name == *name);
    let fits = spec.accepts.is_empty() || *name == String::TYPE_NAME || accepted.is_some_and(|accepted| accepted.json);
    match (accepted, fits) {
        (None, _) if !spec.accepts.is_empty() => {
            Err(InputError::Mapping(format!("`{}` does not take `{name}`{}", spec.name, takes(spec))))
        }
        (_, true) => Ok(name.clone()),
        (_, false) => Err(InputError::Mapping(format!("rows are JSON, and `{name}` is not: write a mapping in Rust for it"))),
    }
}

fn takes(spec: &FunctionSpec) -> String {
    let names: Vec<_> = spec.accepts.iter().map(|accepted| format!("`{}`", accepted.type_name)).collect();
    format!("; it takes {}", names.join(", "))
}

fn advice(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Type { accepted, .. } => {
            let names: Vec<_> = accepted.iter().map(|name| format!("`{name}`")).collect();
            format!(
                "{refusal}: give the type with `--type`; it takes {}",
                if names.is_empty() { "any".into() } else { names.join(", ") }
            )
        }
        other => other.to_string(),
    }
}

/// A mapping of which everything was looked up.
pub(crate) struct Resolved {
    functions: Functions,
    how: How,
}

enum How {
    Rows(Arc<RowFn>),
    Field { spec: Arc<FunctionSpec>, id: String, type_name: TypeName },
}

impl Resolved {
    /// The row's messages, each checked as an ingress checks it.
    ///
    /// # Errors
    /// Why the row belongs to the dead letters.
    pub(super) fn messages(&self, row: &Row<'_>) -> Result<Vec<(Address, TypedValue)>, String> {
        match &self.how {
            How::Rows(map) => {
                let messages = catch_unwind(AssertUnwindSafe(|| map(row))).map_err(|_| "the mapping panicked".to_owned())??;
                let bytes: usize = messages.iter().map(|(_, value)| wire_bytes(value)).sum();
                if messages.len() > MAX_ENVELOPE_MESSAGES || bytes > MAX_ROW_WIRE_BYTES {
                    return Err(format!(
                        "the row becomes too much: at most {MAX_ENVELOPE_MESSAGES} messages and {MAX_ROW_WIRE_BYTES} bytes"
                    ));
                }
                for (address, value) in &messages {
                    let Some(function) = self.functions.get(address.function()) else {
                        let error = find(&self.functions, address.function().as_str()).err();
                        return Err(error.map_or_else(String::new, |error| error.to_string()));
                    };
                    check(&function.spec, value).map_err(|refusal| refusal.to_string())?;
                }
                Ok(messages)
            }
            How::Field { spec, id, type_name } => {
                let text = row.get(id).ok_or_else(|| format!("no field `{id}` to take the id from"))?;
                let address = Address::new(spec.name.clone(), text).map_err(|error| format!("the field `{id}`: {error}"))?;
                let form = if *type_name == String::TYPE_NAME { Form::Text } else { Form::Type(type_name) };
                let value = message(spec, form, row.to_json().into()).map_err(|refusal| refusal.to_string())?;
                Ok(vec![(address, value)])
            }
        }
    }
}
