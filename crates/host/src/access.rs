//! Whom a host answers over HTTP: by which names it is reached, pages of which origins may ask, and who knows the token.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use axum::http::uri::Authority;
use sha2::{Digest, Sha256};

/// Characters of a token: fewer can be guessed.
const MIN_TOKEN_CHARS: usize = 16;

/// Whom a host answers over HTTP. The default is: this machine, and no page of a browser.
#[derive(Debug, Clone, Default)]
pub struct Access {
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
    /// What every request has to carry as `Authorization: Bearer`. Whoever listens elsewhere than on the loopback needs one.
    pub token: Option<Token>,
}

impl Access {
    /// Also serves requests for this name: one that a proxy on this machine passes on. It has no port.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn allow_host(&mut self, name: &str) -> Result<(), String> {
        match name.parse::<Authority>() {
            Ok(authority) if authority.as_str() == authority.host() => {
                self.hosts.insert(name.to_ascii_lowercase());
                Ok(())
            }
            _ => Err(format!("`{name}` is not the name of a host: write it without scheme, port and path, as example.org")),
        }
    }

    /// Also answers pages of this origin, such as `https://example.org`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn allow_origin(&mut self, origin: &str) -> Result<(), String> {
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).map(str::parse::<Authority>);
        match authority {
            Some(Ok(authority)) if !authority.as_str().contains('@') => {
                self.origins.insert(origin.to_ascii_lowercase());
                Ok(())
            }
            _ => Err(format!("`{origin}` is not an origin: write it without path, as https://example.org")),
        }
    }

    /// Everything that this or the other allows; this token, or else the other's.
    pub(crate) fn or(mut self, other: Self) -> Self {
        self.hosts.extend(other.hosts);
        self.origins.extend(other.origins);
        self.token = self.token.or(other.token);
        self
    }

    /// Whether a request for this host is served. On the loopback a name from outside is an attack by DNS: the page of a browser
    /// made its own name mean this machine. Elsewhere the token keeps such pages out.
    pub(crate) fn serves(&self, host: &Authority, on_loopback: bool) -> bool {
        let name = host.host().to_ascii_lowercase();
        is_loopback(&name) || self.hosts.contains(&name) || (!on_loopback && self.hosts.is_empty())
    }

    /// Whether pages of this origin, that the host's own are not, may ask.
    pub(crate) fn allows_origin(&self, origin: &str) -> bool {
        self.origins.contains(&origin.to_ascii_lowercase())
    }
}

fn is_loopback(name: &str) -> bool {
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// What requests have to carry. Only its digest is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The token of this text.
    ///
    /// # Errors
    /// If it is too short, or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() < MIN_TOKEN_CHARS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "a token has at least {MIN_TOKEN_CHARS} visible ASCII characters: `openssl rand -hex 32` makes a good one"
            ));
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// Whether this is the token; how long that takes says nothing about it.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(given).into();
        self.0.iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_on_the_loopback_serves_loopback_names_only() {
        let mut access = Access::default();
        let serves = |access: &Access, host: &str, on_loopback| access.serves(&host.parse().unwrap(), on_loopback);
        for ours in ["localhost", "LocalHost:1", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::ffff:127.0.0.1]"] {
            assert!(serves(&access, ours, true), "{ours}");
        }
        for theirs in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:8080", "0.0.0.0"] {
            assert!(!serves(&access, theirs, true) && serves(&access, theirs, false), "{theirs}");
        }
        access.allow_host("App.example").unwrap();
        assert!(serves(&access, "app.example:443", true) && serves(&access, "app.example", false));
        assert!(!serves(&access, "evil.example", false), "once names are given, others are not served elsewhere either");
    }

    #[test]
    fn names_and_origins_are_checked_where_they_are_given() {
        let mut access = Access::default();
        for bad in ["", "http://a", "a:80", "a/b", "me@a"] {
            assert!(access.allow_host(bad).is_err(), "{bad}");
        }
        for bad in ["", "a", "null", "*", "ftp://a", "http://", "http://a/", "http://me@a"] {
            assert!(access.allow_origin(bad).is_err(), "{bad}");
        }
        access.allow_origin("http://A:3000").unwrap();
        assert!(access.allows_origin("http://a:3000") && !access.allows_origin("https://a:3000"));
    }

    #[test]
    fn a_token_is_compared_whole_and_never_shown() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        assert!(!token.is(b"0123456789abcdeg") && !token.is(b"") && !token.is(b"0123456789abcdef0"));
        assert_eq!(format!("{token:?}"), "Token(…)");
        for bad in ["", "short", "0123456789abcde f", "0123456789abcdeä"] {
            assert!(Token::new(bad).is_err(), "{bad}");
        }
    }
}
