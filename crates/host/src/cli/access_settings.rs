//! Whom the host answers, from arguments.

use std::fs;

use super::{args::ServeArgs, settings::keep};
use crate::access::{Access, Token};

/// What the arguments allow. The token comes from a file or from the environment, never from an option: `ps` shows those.
pub(super) fn access(args: &ServeArgs, from_environment: Option<&Token>, problems: &mut Vec<String>) -> Access {
    let mut access = Access::default();
    for name in &args.allow_host {
        keep(problems, access.allow_host(name).map_err(|problem| format!("--allow-host {problem}")));
    }
    for origin in &args.allow_origin {
        keep(problems, access.allow_origin(origin).map_err(|problem| format!("--allow-origin {problem}")));
    }
    access.token = match &args.token_file {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| error.to_string());
            let token = text.and_then(|text| Token::new(text.trim()));
            keep(problems, token.map_err(|problem| format!("--token-file {}: {problem}", path.display())))
        }
        None => from_environment.cloned(),
    };
    access
}
