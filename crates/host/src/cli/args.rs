//! The command line. Values are texts here: what is wrong with them is found out together, in `settings`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Runs this application on this machine: messages come in over HTTP or from a file, everything is kept in one folder.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) serve: ServeArgs,
    /// The folder that holds everything [env: STATEFUN_DATA] [default: .statefun/<name of this program>]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) data: Option<PathBuf>,
    /// Shows the version
    #[arg(short = 'V', long)]
    pub(super) version: bool,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Default, Args)]
pub(super) struct ServeArgs {
    /// Listens for HTTP here: ADDRESS:PORT, a port alone, or `none` [env: STATEFUN_LISTEN] [default: 127.0.0.1:8080; with
    /// --until-idle: none]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<String>,
    /// Answers only requests that carry what this file holds, as `Authorization: Bearer`. Needed to listen elsewhere than on the
    /// loopback [env: STATEFUN_TOKEN, the token itself]
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Also serves requests for this name, such as a proxy on this machine passes on. May be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) allow_host: Vec<String>,
    /// Also answers pages of this origin, such as https://example.org. May be repeated
    #[arg(long, value_name = "ORIGIN")]
    pub(super) allow_origin: Vec<String>,
    /// Reads messages from this file, or from the standard input with `-`. A file goes on where an earlier run left it
    #[arg(long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// How the input is written: csv or jsonl [default: by the file's ending]
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
    /// Goes on reading what is added to the input, until the host stops. A last line waits for its end
    #[arg(long)]
    pub(super) follow: bool,
    /// A CSV column that is text, also where it looks like a number; can be repeated
    #[arg(long, value_name = "FIELD")]
    pub(super) text: Vec<String>,
    /// The function that rows of the input are sent to
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(super) to: Option<String>,
    /// The field of a row that is the id it is sent to; with --ingress, its partition key or message group
    #[arg(long, value_name = "FIELD")]
    pub(super) id: Option<String>,
    /// The message type that a row is [default: the function's only JSON type]
    #[arg(long = "type", value_name = "NAMESPACE/NAME")]
    pub(super) message_type: Option<String>,
    /// Feeds rows of the input, as JSON, to this ingress of the module
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(super) ingress: Option<String>,
    /// The stream or queue of that ingress, if it has several
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Reads ingresses and egresses from this module.yaml [env: STATEFUN_MODULE]
    #[arg(long, value_name = "FILE")]
    pub(super) module: Option<PathBuf>,
    /// Sends an egress's records to `stdout`, `file:PATH`, `http://URL` or `https://URL` [default: <DIR>/egress/<namespace>/<name>.jsonl]
    #[arg(long, value_name = "NAME=SINK")]
    pub(super) egress: Vec<String>,
    /// Gives up a handler that runs for longer, or holds its thread for as long, and tries its message again: 500ms, 30s, 5m
    /// [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(super) handler_timeout: Option<String>,
    /// Ends when the input is read and nothing waits any more
    #[arg(long)]
    pub(super) until_idle: bool,
    /// Deletes what the data folder holds first. Refused if something else is in it, or while another process has it
    #[arg(long)]
    pub(super) fresh: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Messages that were given up, records that an egress refused, and rows that could not be read
    DeadLetters {
        #[command(subcommand)]
        command: DeadLetters,
    },
    /// Shows the state of an instance
    State {
        /// namespace/name/id
        address: String,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// Lists them, oldest first
    List {
        /// One JSON object a line, with all there is, for programs
        #[arg(long)]
        json: bool,
    },
    /// Sends messages again, and records that an egress refused; they go when the application is next started
    Replay {
        /// All of them
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// Sends also messages that may have been applied before: those would then be applied twice
        #[arg(long)]
        may_be_applied: bool,
        /// Ids, as `dead-letters list` shows them
        #[arg(value_name = "ID", required_unless_present = "all")]
        ids: Vec<String>,
    },
    /// Deletes them: what they hold is gone for good
    Delete {
        /// All records that could not be read
        #[arg(long, conflicts_with = "ids")]
        malformed: bool,
        /// Ids, as `dead-letters list` shows them
        #[arg(value_name = "ID", required_unless_present = "malformed")]
        ids: Vec<String>,
    },
}
