//! `GET /_/metrics`: what is counted, in Prometheus' text form.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use axum::{
    extract::State,
    http::{Uri, header},
    response::{IntoResponse, Response},
};

use super::{problem::Problem, request::query};
use crate::{egress::Failures, host::Inner};

/// Requests to the HTTP ingress by status.
const REQUESTS: &str = "statefun_http_requests_total";
/// What waits and runs now.
const BACKLOG: &str = "statefun_backlog";
const INFLIGHT: &str = "statefun_inflight_addresses";
const EGRESS_BACKLOG: &str = "statefun_egress_backlog";
const DEAD_LETTERS: &str = "statefun_dead_letters";

pub(super) async fn get(State(inner): State<Arc<Inner>>, uri: Uri) -> Result<Response, Problem> {
    let [] = query(&uri, [])?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text(&inner)).into_response())
}

/// Labels and value.
type Sample = (String, u64);

fn text(inner: &Inner) -> String {
    let mut text = String::new();
    let mut counters: BTreeMap<&str, (&str, Vec<Sample>)> = BTreeMap::new();
    for (function, counted) in inner.engine.metrics().iter() {
        for (name, help, value) in counted.read() {
            let samples = &mut counters.entry(name).or_insert((help, Vec::new())).1;
            samples.push((format!("{{function=\"{function}\"}}"), value));
        }
    }
    for (name, (help, samples)) in &counters {
        family(&mut text, name, "counter", help, samples);
    }
    let requests: Vec<_> =
        inner.requests.read().into_iter().map(|(status, count)| (format!("{{status=\"{status}\"}}"), count)).collect();
    family(&mut text, REQUESTS, "counter", "Requests to the HTTP ingress", &requests);
    let failures = inner.egress_failures.read().into_iter();
    let failures: Vec<_> =
        failures.map(|(egress, kind, count)| (format!("{{egress=\"{egress}\",kind=\"{kind}\"}}"), count)).collect();
    family(&mut text, Failures::NAME, "counter", "Tries that an egress refused, or that failed for an outage of it", &failures);
    let waiting = inner.store.waiting();
    for (name, help, value) in [
        (BACKLOG, "Envelopes that wait for functions, those at work included", waiting.messages),
        (INFLIGHT, "Addresses at work", waiting.running as u64),
        (EGRESS_BACKLOG, "Records that wait for egresses", waiting.egress),
        (DEAD_LETTERS, "Dead letters kept", inner.store.letter_count()),
    ] {
        family(&mut text, name, "gauge", help, &[(String::new(), value)]);
    }
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str, samples: &[Sample]) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}
