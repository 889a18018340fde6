//! What the tests' own function takes, and keeps. Shared by the function and by those that send to it.

use serde::{Deserialize, Serialize};

/// A message for `e2e/worker`. Unless it fails, its number is noted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    /// Noted, in the order handled.
    pub(crate) number: u64,
    /// What is done beside that.
    #[serde(default)]
    pub(crate) act: Act,
}

/// What a task does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Act {
    /// Nothing more.
    #[default]
    Note,
    /// Fails, until the instance was fixed.
    Fail,
    /// Fails for good, until the instance was fixed.
    FailForGood,
    /// Fixes the instance.
    Fix,
    /// Ends the process, unless this file is there; makes it before.
    ExitOnce(String),
    /// Ends the process, always; adds a line to this file before.
    Exit(String),
    /// Waits for ever, unless this file is there; makes it before. The runtime gives it up before Lambda does. The process notes
    /// itself in the file, and in `<file>.again` when it comes again.
    HangOnce(String),
    /// Blocks its thread for ever, unless this file is there; makes it before. Only Lambda can end that. Notes as `HangOnce`.
    BlockOnce(String),
    /// Sends the number, one less, to the instances of this list in turn, until it is 0.
    Pass(Vec<String>),
    /// Writes a task with the number to the egress `e2e/out`.
    Emit,
    /// Sends itself a task with this number, this many milliseconds later.
    Later(u64, u64),
}

/// What an instance of `e2e/worker` keeps: its value `notes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notes {
    /// Numbers of the tasks that were handled, in order.
    pub(crate) numbers: Vec<u64>,
    /// Whether it was fixed.
    #[serde(default)]
    pub(crate) fixed: bool,
}
