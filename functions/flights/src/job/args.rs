//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Parser, Subcommand};

/// The file that comes with the example.
const WEEK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights-week.csv");

/// Reads departures through stateful functions, one instance per aircraft, airport and route, and shows what they know.
///
/// A run that was stopped or killed goes on where it was left.
#[derive(Debug, Parser)]
#[command(name = "flights", version)]
pub(crate) struct Args {
    /// The file with the departures, CSV [default: the week that comes with the example]
    #[arg(long, value_name = "FILE", default_value = WEEK, hide_default_value = true)]
    pub(crate) input: PathBuf,

    /// The folder that state, egress and dead letters are kept in
    #[arg(long, value_name = "DIR", default_value = ".statefun/flights", global = true)]
    pub(crate) data: PathBuf,

    /// Write all numbers to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,

    /// Forget what the folder holds, and start anew
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Write the summary as JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) look: Option<Look>,
}

/// Looks at what a run has left.
#[derive(Debug, Subcommand)]
pub(crate) enum Look {
    /// Show the state of an instance, such as flights/airport/EWR
    State {
        /// The instance, and options
        #[arg(value_name = "ADDRESS", required = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
    /// List the rows that could not be read: `dead-letters list`
    DeadLetters {
        /// What to do with them
        #[arg(value_name = "COMMAND", required = true, allow_hyphen_values = true)]
        rest: Vec<OsString>,
    },
}

impl Look {
    /// As the host's command line takes it.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let (name, rest) = match self {
            Self::State { rest } => ("state", rest),
            Self::DeadLetters { rest } => ("dead-letters", rest),
        };
        [&[name.into()], rest.as_slice()].concat()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
        assert!(Args::parse_from(["flights"]).input.is_file());
    }
}
