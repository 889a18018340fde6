//! What stands in a request's line: a path and a query that mean one thing only.

use axum::{
    extract::{Query, Request},
    http::Uri,
    middleware::Next,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use statefun_core::nearest;

use super::problem::Problem;

/// Refuses paths that are not percent-encoded UTF-8, before anybody reads them.
pub(super) async fn checked(request: Request, next: Next) -> Response {
    match check_path(request.uri().path()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check_path(path: &str) -> Result<(), Problem> {
    let is_escape = |part: &str| part.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    // Taken as it is, `100%` would be the same as `100%25`, but `100%25` not the same as itself.
    if !path.split('%').skip(1).all(is_escape) {
        return Err(Problem::bad_request("a `%` in the path is not followed by two hexadecimal digits")
            .hint("a percent sign itself is written `%25`"));
    }
    match percent_decode_str(path).decode_utf8() {
        Ok(_) => Ok(()),
        Err(_) => Err(Problem::bad_request("the path is not percent-encoded UTF-8")),
    }
}

/// The values of these keys of the query. Others are refused: a request that means something is not to be half understood.
pub(super) fn query<const N: usize>(uri: &Uri, known: [&str; N]) -> Result<[Option<String>; N], Problem> {
    // Cut off without a word, a `?` at the end of an id would make it another id.
    if N == 0 && uri.query() == Some("") {
        return Err(unknown("", &known));
    }
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(pairs) = pairs.map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}")))?;
    let mut values = [const { None }; N];
    for (key, value) in pairs {
        let Some(index) = known.iter().position(|known| *known == key) else { return Err(unknown(&key, &known)) };
        if values[index].replace(value).is_some() {
            return Err(Problem::bad_request(format!("`{key}` stands twice in the query")));
        }
    }
    Ok(values)
}

fn unknown(key: &str, known: &[&str]) -> Problem {
    let nearest = nearest(key, known.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let problem = Problem::bad_request(format!("`{key}` in the query is not known here{nearest}"));
    problem.hint(match known.is_empty() {
        true => "this path takes no query; a `?` in an id is written `%3F`".to_owned(),
        false => format!("this path takes {}", known.join(", ")),
    })
}

/// A value of the query that is yes or no; no if it is not there.
pub(super) fn flag(name: &str, value: Option<&str>) -> Result<bool, Problem> {
    match value {
        Some("true") => Ok(true),
        Some("false") | None => Ok(false),
        Some(other) => Err(Problem::bad_request(format!("`{name}={other}` in the query: write true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_well_formed() {
        for good in ["", "/a/b/100%25", "/a/b/%C3%BC", "/%2f%2F"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in ["/a/b/100%", "/a/b/%zz", "/a/%2", "/a/%%25", "/a/%2%35", "/a/b/%ff", "/%c3/a"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_is_understood_whole() {
        let read = |text: &str| {
            query(&format!("/a?{text}").parse().unwrap(), ["limit", "after"]).map_err(|problem| format!("{problem:?}"))
        };
        assert_eq!(read("after=a%20b"), Ok([None, Some("a b".to_owned())]));
        assert_eq!(read(""), Ok([None, None]));
        assert!(read("limt=1").unwrap_err().contains("did you mean `limit`?"));
        assert!(read("limit=1&limit=2").unwrap_err().contains("twice"));
        assert_eq!(
            (flag("a", Some("true")).ok(), flag("a", None).ok(), flag("a", Some("1")).ok()),
            (Some(true), Some(false), None)
        );
    }
}
