//! What can be set about a host, in code.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::http::Uri;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use percent_encoding::percent_decode_str;
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
#[derive(Clone, PartialEq, Eq)]
pub enum SinkSpec {
    /// One line of JSON per record to the standard output; a record may be repeated after a crash.
    Stdout,
    /// One line of JSON per record to this file; every record exactly once.
    File(PathBuf),
    /// One POST per record to this `http://` or `https://` URL, with a stable `Idempotency-Key`; repeated until it is answered with 2xx, or
    /// refused five times: then it is a dead letter. `user:password@` in the URL goes out as Basic authorization.
    Http(Uri),
}

impl SinkSpec {
    /// Reads `stdout`, `file:PATH`, `http://…` or `https://…`.
    ///
    /// # Errors
    /// What is wrong with it, and what can be written, in words. A password is not among them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let sink = match text.split_once(':') {
            None if text == "stdout" => Self::Stdout,
            Some(("file", "")) => return Err("`file:` needs a path".to_owned()),
            Some(("file", path)) => Self::File(path.into()),
            Some(("http" | "https", _)) => match text.parse() {
                Ok(url) => Self::Http(url),
                Err(error) => return Err(format!("`{}` is not a URL: {error}", without_password(text))),
            },
            _ => {
                let text = without_password(text);
                return Err(format!("`{text}` is not a sink: write `stdout`, `file:PATH` or `https://URL`"));
            }
        };
        sink.check().map(|()| sink)
    }

    /// Whether records can ever go there: a port that there is, a path that leads to a file or to nothing yet.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Stdout => Ok(()),
            Self::File(path) => check_file(path),
            Self::Http(url) => check_url(url),
        }
    }
}

/// As it is written, without a password.
impl std::fmt::Debug for SinkSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("Stdout"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Http(url) => write!(f, "Http({})", without_password(&url.to_string())),
        }
    }
}

/// What somebody wrote, without the user and the password of a URL in it.
pub(crate) fn without_password(text: &str) -> String {
    // A password may hold what would end the host's name, by mistake: rather too much is hidden than too little.
    match text.split_once("//").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, host))) => format!("{scheme}//…@{host}"),
        None => text.to_owned(),
    }
}

fn check_url(url: &Uri) -> Result<(), String> {
    let wrong = |problem: &str| Err(format!("`{}`: {problem}", without_password(&url.to_string())));
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return wrong("it begins neither with http:// nor with https://");
    }
    let Some(authority) = url.authority().filter(|authority| !authority.host().is_empty()) else {
        return wrong("it names no host");
    };
    // What the parser cannot read as a port it leaves out, and the default would be taken.
    let (_, after) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
    let port = after.strip_prefix(authority.host()).unwrap_or(after);
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return wrong("a port is a number from 1 to 65535");
    }
    if basic_authorization(url).is_err() {
        return wrong("user and password have a `%` without two hexadecimal digits, or bytes that are not UTF-8");
    }
    Ok(())
}

/// Percent escapes that stand for no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotText;

/// What `user:password@` in a URL means, if it is there: the value of `Authorization`.
///
/// # Errors
/// If its escapes are not text.
pub(crate) fn basic_authorization(url: &Uri) -> Result<Option<String>, NotText> {
    let Some((userinfo, _)) = url.authority().and_then(|authority| authority.as_str().rsplit_once('@')) else { return Ok(None) };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let decoded = |part: &str| match escapes_are_whole(part) {
        true => percent_decode_str(part).decode_utf8().map(|text| text.into_owned()).map_err(|_| NotText),
        false => Err(NotText),
    };
    Ok(Some(format!("Basic {}", BASE64.encode(format!("{}:{}", decoded(user)?, decoded(password)?)))))
}

fn escapes_are_whole(text: &str) -> bool {
    let hex = |part: &str| part.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    text.split('%').skip(1).all(hex)
}

/// Only a regular file can be gone on with after a crash.
fn check_file(path: &Path) -> Result<(), String> {
    let what = match fs::metadata(path) {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(found) if found.is_dir() => "a folder",
        Ok(_) => "a device, a pipe or a socket",
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("`{}` cannot be written: {error}", path.display())),
    };
    Err(format!("`{}` is {what}, and records go to a file: name one, or write `stdout`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_and_what_is_none() {
        assert_eq!(SinkSpec::parse("stdout"), Ok(SinkSpec::Stdout));
        assert_eq!(SinkSpec::parse("file:a/b.jsonl"), Ok(SinkSpec::File("a/b.jsonl".into())));
        for good in
            ["http://localhost:9000/x?y", "https://example.com", "http://[::1]:8080/", "https://u:p%40@h:443/", "http://u@h/"]
        {
            assert!(matches!(SinkSpec::parse(good), Ok(SinkSpec::Http(_))), "{good}");
        }
        let bad = [
            "",
            "file:",
            "ftp://x",
            "http://",
            "https:///x",
            "stderr",
            "http://h:99999/",
            "http://h:0/",
            "http://h:/",
            "http://h:x/",
            "https://[::1]:99999/",
            "http://u:p@h:99999/",
            "http://u:%4@h/",
            "http:x",
        ];
        for bad in bad {
            assert!(SinkSpec::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            SinkSpec::parse("http://127.0.0.1:99999/").unwrap_err(),
            "`http://127.0.0.1:99999/`: a port is a number from 1 to 65535"
        );
    }

    #[test]
    fn a_password_is_sent_and_never_shown() {
        let SinkSpec::Http(url) = SinkSpec::parse("https://ann:s%65cret@example.com/x").unwrap() else { panic!() };
        assert_eq!(basic_authorization(&url), Ok(Some(format!("Basic {}", BASE64.encode("ann:secret")))));
        assert_eq!(format!("{:?}", SinkSpec::Http(url)), "Http(https://…@example.com/x)");
        for wrong in [
            "http://ann:secret@h:99999/",
            "http://ann:sec/secret@h/",
            "http://ann:sec?secret@h/",
            "http://ann:secret@h:x/",
            "http://ann:secret@",
            "ftp://ann:secret@h/",
        ] {
            let said = SinkSpec::parse(wrong).unwrap_err();
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |path: &Path| SinkSpec::File(path.into()).check();
        assert!(path(folder.path()).unwrap_err().contains("is a folder"));
        assert!(path(Path::new("/dev/null")).unwrap_err().contains("is a device"));
        assert_eq!(path(&folder.path().join("new/file")), Ok(()));
        fs::write(folder.path().join("old"), "").unwrap();
        assert_eq!(path(&folder.path().join("old")), Ok(()));
        assert!(path(&folder.path().join("old/beneath")).is_err());
    }
}
