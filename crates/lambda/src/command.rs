//! What operators and the schedule ask the router for: `{"statefun": …}`.

use std::collections::BTreeSet;

use serde::Deserialize;

/// A command. Keys that it does not know are refused, for one that is misspelt would select more than was meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "statefun", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Command {
    /// Arms timers that fall due. Sent every minute by a schedule.
    Sweep {},
    /// Shows dead letters.
    ListDeadLetters {
        /// Letters at most.
        #[serde(default = "hundred")]
        max: usize,
        /// What was to be handled, too.
        #[serde(default)]
        payloads: bool,
    },
    /// Sends dead letters again.
    ReplayDeadLetters {
        /// Letters at most.
        #[serde(default = "ten")]
        max: usize,
        /// Only these.
        ids: Option<BTreeSet<String>>,
        /// Only those for this function, `namespace/name`.
        function: Option<String>,
        /// Also those whose message may have been applied.
        #[serde(default)]
        may_be_applied: bool,
    },
    /// Deletes dead letters.
    DeleteDeadLetters {
        /// These.
        #[serde(default)]
        ids: BTreeSet<String>,
        /// All records that could not be read.
        #[serde(default)]
        malformed: bool,
    },
    /// Nudges those whose outboxes stand, in all of the table.
    SweepOutboxes {
        /// The part of the table to begin with.
        #[serde(default)]
        from: u32,
    },
    /// Counts outboxes that stand.
    ListOutboxes {
        /// The part of the table to begin with.
        #[serde(default)]
        from: u32,
    },
    /// Shows an instance.
    State {
        /// Its address, `namespace/name/id`.
        address: String,
    },
}

const fn ten() -> usize {
    10
}

const fn hundred() -> usize {
    100
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(command: Value) -> Result<Command, String> {
        serde_json::from_value(command).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_and_their_defaults() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        for (command, expected) in [
            (json!({"statefun": "sweep"}), Command::Sweep {}),
            (json!({"statefun": "list-dead-letters"}), Command::ListDeadLetters { max: 100, payloads: false }),
            (
                json!({"statefun": "replay-dead-letters"}),
                Command::ReplayDeadLetters { max: 10, ids: None, function: None, may_be_applied: false },
            ),
            (
                json!({"statefun": "replay-dead-letters", "max": 3, "ids": ["a"], "function": "a/b", "may_be_applied": true}),
                Command::ReplayDeadLetters {
                    max: 3,
                    ids: Some(ids(&["a"])),
                    function: Some("a/b".to_owned()),
                    may_be_applied: true,
                },
            ),
            (
                json!({"statefun": "delete-dead-letters", "ids": ["a", "b"]}),
                Command::DeleteDeadLetters { ids: ids(&["a", "b"]), malformed: false },
            ),
        ] {
            assert_eq!(read(command).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_unknown_is_refused_and_what_is_known_is_told() {
        for (command, told) in [
            (json!({"statefun": "dance"}), ["`dance`", "`list-dead-letters`"]),
            (json!({"statefun": "replay-dead-letters", "id": "x"}), ["`id`", "`ids`"]),
            (json!({"statefun": "delete-dead-letters", "functions": "a/b"}), ["`functions`", "`malformed`"]),
            (json!({"statefun": "sweep", "max": 1}), ["`max`", "no fields"]),
            (json!({"statefun": "state"}), ["`address`", "missing"]),
        ] {
            let error = read(command).unwrap_err();
            assert!(told.iter().all(|told| error.contains(told)), "{error}");
        }
    }
}
