//! State and dead letters as people and programs read them: the same JSON over HTTP and on the command line.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use statefun_core::{Address, EgressRecord, Record, ShownEnvelope, ShownValue, StoredValue, Timestamp, stored::egress_to_json};
use statefun_embedded::{Letter, MalformedRecord};

use crate::letters;

/// An instance.
#[derive(Debug, Serialize)]
pub(crate) struct InstanceView<'a> {
    address: String,
    version: u64,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoked_at: Option<String>,
    state: BTreeMap<&'a str, StateView<'a>>,
}

impl<'a> InstanceView<'a> {
    pub(crate) fn new(address: &Address, record: &'a Record) -> Self {
        let view =
            |stored: &'a StoredValue| StateView { value: ShownValue::of(&stored.value), written_at: time(stored.written_at) };
        let state = record.state.iter().map(|(name, stored)| (&**name, view(stored)));
        Self {
            address: address.to_string(),
            version: record.version,
            created_at: time(record.born),
            invoked_at: (record.invoked_at > Timestamp::ZERO).then(|| time(record.invoked_at)),
            state: state.collect(),
        }
    }

    /// Name, type and value of each state value, for a table.
    pub(crate) fn rows(&self) -> impl Iterator<Item = [String; 3]> {
        self.state.iter().map(|(name, value)| [(*name).to_owned(), value.value.type_name().to_owned(), value.value.text()])
    }

    pub(crate) fn summary(&self) -> String {
        let invoked = self.invoked_at.as_deref().unwrap_or("never");
        format!("{}  version {}, created {}, invoked {invoked}", self.address, self.version, self.created_at)
    }
}

/// A state value. Digits are shown as they are stored.
#[derive(Debug, Serialize)]
struct StateView<'a> {
    #[serde(flatten)]
    value: ShownValue<'a>,
    written_at: String,
}

/// An egress record as it stands in a file.
fn line(record: &EgressRecord) -> Box<RawValue> {
    let mut line = Vec::new();
    egress_to_json(record, &time(record.at), &mut line);
    // It was written a moment ago.
    String::from_utf8(line).ok().and_then(|line| RawValue::from_string(line).ok()).unwrap_or_default()
}

/// A dead letter.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LetterView<'a> {
    pub(crate) id: String,
    pub(crate) at: String,
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) attempts: u32,
    /// Whether its message may have been applied; only if so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) may_be_applied: bool,
    /// Where it was to go, or what it was read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<ShownEnvelope<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    /// The egress that a record was for, and the record as its line would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) egress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Box<RawValue>>,
}

impl<'a> From<&'a Letter> for LetterView<'a> {
    fn from(letter: &'a Letter) -> Self {
        let (id, at) = (letter.id().to_string(), time(letter.at()));
        let empty = Self::default();
        match letter {
            Letter::Dead(dead) => Self {
                id,
                at,
                reason: dead.reason.to_string(),
                error: dead.error.clone(),
                attempts: dead.attempts,
                may_be_applied: letters::may_be_applied(letter),
                to: Some(dead.envelope.to.to_string()),
                envelope: Some(ShownEnvelope::from(&dead.envelope)),
                ..empty
            },
            Letter::Malformed(MalformedRecord { source, position, reason, raw, .. }) => Self {
                id,
                at,
                reason: statefun_core::Reason::Malformed.to_string(),
                error: reason.clone(),
                source: Some(source.clone()),
                position: Some(position.clone()),
                raw: Some(raw.clone()),
                ..empty
            },
            Letter::Refused(refused) => Self {
                id,
                at,
                reason: refused.reason.name().to_owned(),
                error: refused.error.clone(),
                attempts: refused.attempts,
                egress: Some(refused.record.egress.to_string()),
                record: Some(line(&refused.record)),
                ..empty
            },
        }
    }
}

/// A moment as RFC 3339 writes it, UTC: `2026-01-31T23:59:59.123Z`.
pub(crate) fn time(at: Timestamp) -> String {
    let (days, millis) = (at.0 / 86_400_000, at.0 % 86_400_000);
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year; in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (1_767_225_599_001, "2025-12-31T23:59:59.001Z"),
        ] {
            assert_eq!(time(Timestamp(millis)), text);
        }
    }
}
