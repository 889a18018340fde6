//! What a body is said to be, and what it is then read as.

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
};
use statefun_core::{FunctionSpec, TypeName, TypedValue, Value};

use super::problem::Problem;
use crate::{
    accept::{Form, message, only_json},
    error::Refusal,
};

const VENDOR: &str = "application/vnd.";
/// What `curl -d` says of anything.
const FORM: &str = "application/x-www-form-urlencoded";

/// How the body was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Type(TypeName),
    Json,
    Text,
    /// Nothing was said, and this type is the function's only JSON type.
    JsonUnsaid(TypeName),
}

/// What the headers say, or else what the function takes.
pub(super) fn content(headers: &HeaderMap, spec: &FunctionSpec) -> Result<Content, Problem> {
    let unsupported = |error: String| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error);
    if let Some(coding) = headers.get(header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return Err(
            unsupported(format!("bodies are taken as they are, not as {coding:?}")).hint("send it without Content-Encoding")
        );
    }
    let given = headers.get(header::CONTENT_TYPE).map_or(Ok(""), |value| value.to_str());
    let given = given.map_err(|_| unsupported("the Content-Type is not ASCII".to_owned()))?;
    let (essence, parameters) = given.split_once(';').unwrap_or((given, ""));
    let essence = essence.trim().to_ascii_lowercase();
    if let Some(charset) = charset(parameters).filter(|charset| !is_utf8(charset)) {
        return Err(unsupported(format!("the charset `{charset}` is not read here")).hint("send UTF-8"));
    }
    match essence.as_str() {
        "application/json" => Ok(Content::Json),
        "text/plain" => Ok(Content::Text),
        "" | FORM => unsaid(spec, &essence),
        // Names have capitals.
        vendor if vendor.starts_with(VENDOR) => {
            let name = TypeName::parse(&given.trim_start()[VENDOR.len()..essence.len()]);
            name.map(Content::Type).map_err(|error| unsupported(error.to_string()))
        }
        other => Err(refused(spec, format!("`{other}`"))),
    }
}

/// The function's only JSON type, or else text.
fn unsaid(spec: &FunctionSpec, essence: &str) -> Result<Content, Problem> {
    if let Ok(only) = only_json(spec) {
        return Ok(Content::JsonUnsaid(only.type_name.clone()));
    }
    if spec.accepts.is_empty() || spec.accepts.iter().any(|accepted| accepted.type_name == String::TYPE_NAME) {
        return Ok(Content::Text);
    }
    Err(refused(spec, if essence.is_empty() { "a body without Content-Type".to_owned() } else { format!("`{essence}`") }))
}

fn refused(spec: &FunctionSpec, given: String) -> Problem {
    let accepted = spec.accepts.iter().map(|accepted| accepted.type_name.clone()).collect();
    Refusal::Type { function: spec.name.clone(), given, accepted }.into()
}

fn charset(parameters: &str) -> Option<&str> {
    let mut parameters = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let (_, charset) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Some(charset.trim().trim_matches('"'))
}

/// ASCII is UTF-8.
fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
}

/// The message that the body is.
pub(super) fn read(spec: &FunctionSpec, content: &Content, body: Bytes) -> Result<TypedValue, Problem> {
    match content {
        Content::Type(name) => Ok(message(spec, Form::Type(name), body)?),
        Content::Json => Ok(message(spec, Form::Json, body)?),
        Content::Text => Ok(message(spec, Form::Text, body)?),
        Content::JsonUnsaid(name) => message(spec, Form::Json, body).map_err(|refusal| {
            let unreadable = matches!(refusal, Refusal::Unreadable(_));
            let problem = Problem::from(refusal);
            match unreadable {
                true => problem.hint(format!("a body without a Content-Type of its own is read as JSON of `{name}`")),
                false => problem,
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &str) -> Option<Content> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())]);
        content(&headers, &FunctionSpec::new(TypeName::from_static("a/b"))).ok()
    }

    #[test]
    fn content_types() {
        for json in ["application/json", "Application/JSON ; Charset=\"UTF-8\"", "application/json;x=y;charset=us-ascii"] {
            assert_eq!(of(json), Some(Content::Json), "{json}");
        }
        for text in ["text/plain", "", "application/x-www-form-urlencoded"] {
            assert_eq!(of(text), Some(Content::Text), "a function that takes anything takes text: {text}");
        }
        let name = TypeName::from_static("A/b");
        assert_eq!(of("application/vnd.A/b"), Some(Content::Type(name.clone())));
        assert_eq!(of(" APPLICATION/VND.A/b ; x=y"), Some(Content::Type(name)));
        for none in
            ["text/plain;charset=utf-16", "application/vnd.a/b; charset=latin1", "application/vnd.", "text/html", "text/ä"]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
