//! What can be set about a host, in code.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::http::Uri;
use statefun_core::TypeName;
use statefun_engine::Backoff;
use statefun_module::Module;

use crate::access::Access;

/// Settings of a host. The defaults suit one machine.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The folder that holds everything.
    pub data: PathBuf,
    /// Where egress records go.
    pub egress: EgressRoutes,
    /// What `module.yaml` declares: its ingresses can be fed by hand, and functions can send to its egresses, with their limits, and
    /// to those that have a route here. Queues, streams and topics are not used.
    pub module: Option<Arc<Module>>,
    /// Whom the host answers over HTTP.
    pub access: Access,
    /// How long a connection may take to say what it asks, and may be idle.
    pub header_timeout: Duration,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How long one address may work on a batch; a handler still running then is given up and tried again. A handler that holds its
    /// thread for as long, without an `.await` that yields, is given up, too: its run commits nothing, its thread is left to it, and
    /// another takes the thread's place. 30 s by default.
    pub handler_timeout: Duration,
    /// How many threads may be left to handlers that were given up and did not return yet. With one more the host ends with an error: what
    /// holds them can only end with the process. 16 by default.
    pub max_stuck_threads: usize,
    /// Waiting envelopes from which on ingress takes no more: HTTP answers 503, calls in the process wait.
    pub max_waiting: u64,
    /// Waiting envelopes from which on file inputs pause. Few are enough to keep the functions busy.
    pub max_waiting_for_input: u64,
    /// Addresses that work at the same time.
    pub max_concurrent: usize,
    /// How long running handlers and requests may go on when the host stops. 10 s by default; a second later it has stopped, whatever
    /// hangs.
    pub stop_timeout: Duration,
    /// Pauses between tries of a failing message.
    pub backoff: Backoff,
    /// How long changes may gather before they are written to disk, while nobody waits for them.
    pub linger: Duration,
}

impl HostOptions {
    /// The defaults, in this folder.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            egress: EgressRoutes::default(),
            module: None,
            access: Access::default(),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            handler_timeout: Duration::from_secs(30),
            max_stuck_threads: 16,
            max_waiting: 1_000_000,
            max_waiting_for_input: 20_000,
            max_concurrent: 4_096,
            stop_timeout: Duration::from_secs(10),
            // Nobody else is slowed by a try: shorter than on AWS, where each is a call that costs.
            backoff: Backoff {
                first: Duration::from_millis(200),
                longest: Duration::from_secs(60),
                busy: Duration::from_millis(200),
                ..Backoff::default()
            },
            linger: statefun_embedded::Options::default().linger,
        }
    }
}

/// Where egress records go, by the egress's name.
#[derive(Debug, Clone, Default)]
pub struct EgressRoutes {
    /// Egresses with a sink of their own. Others write to `<data>/egress/<namespace>/<name>.jsonl`.
    pub named: BTreeMap<TypeName, SinkSpec>,
}

/// Where the records of one egress go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkSpec {
    /// One line of JSON per record to the standard output; a record may be repeated after a crash.
    Stdout,
    /// One line of JSON per record to this file; every record exactly once.
    File(PathBuf),
    /// One POST per record to this `http://` URL; repeated until it is answered with 2xx, with a stable `Idempotency-Key`.
    Http(Uri),
}

impl SinkSpec {
    /// Reads `stdout`, `file:PATH` or `http://…`.
    ///
    /// # Errors
    /// What can be written, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path.is_empty() {
                true => Err("`file:` needs a path".to_owned()),
                false => Ok(Self::File(path.into())),
            };
        }
        if text.starts_with("https://") {
            return Err(format!(
                "`{text}`: only http:// is spoken here; put a proxy on this machine that speaks https to the outside"
            ));
        }
        if !text.starts_with("http://") {
            return Err(format!("`{text}` is no sink: write `stdout`, `file:PATH` or `http://URL`"));
        }
        match text.parse::<Uri>() {
            Ok(url) if url.host().is_some_and(|host| !host.is_empty()) => Ok(Self::Http(url)),
            _ => Err(format!("`{text}` is not a URL")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_and_what_is_none() {
        assert_eq!(SinkSpec::parse("stdout"), Ok(SinkSpec::Stdout));
        assert_eq!(SinkSpec::parse("file:a/b.jsonl"), Ok(SinkSpec::File("a/b.jsonl".into())));
        assert!(matches!(SinkSpec::parse("http://localhost:9000/x?y"), Ok(SinkSpec::Http(_))));
        for bad in ["", "file:", "https://example.com/", "ftp://x", "http://", "stderr"] {
            assert!(SinkSpec::parse(bad).is_err(), "{bad}");
        }
        assert!(SinkSpec::parse("https://x").unwrap_err().contains("proxy"));
    }
}
