//! Dead letters: pages of them, sending them again, and deleting them.

use statefun_core::{EnvelopeId, Timestamp};
use statefun_embedded::{Embedded, Letter, Replayed};
use statefun_engine::ports::PortError;

/// Bytes that a malformed record may take in its letter's JSON. Most are kept whole. Files keep their rows themselves, and a file
/// may be full of bad ones: the folder must not grow to several times its size.
pub(crate) const MAX_RAW_BYTES: usize = 64 * 1_024;

/// Letters read at a time; each may hold a megabyte.
const PAGE: usize = 100;

/// The place after a letter, as it stands in a request for the next page.
pub(crate) fn place_after(letter: &Letter) -> String {
    format!("{}-{}", letter.at().0, letter.id())
}

/// Reads what [`place_after`] wrote.
pub(crate) fn parse_place(text: &str) -> Option<(Timestamp, EnvelopeId)> {
    let (at, id) = text.split_once('-')?;
    Some((Timestamp(at.parse().ok()?), EnvelopeId::from_hex(id)?))
}

/// Calls `each` for all letters, oldest first.
pub(crate) fn for_each<E: From<PortError>>(store: &Embedded, mut each: impl FnMut(&Letter) -> Result<(), E>) -> Result<(), E> {
    let mut after = None;
    loop {
        let page = store.letters(after, PAGE)?;
        for letter in &page {
            each(letter)?;
        }
        match page.last() {
            Some(last) => after = Some((last.at(), last.id())),
            None => return Ok(()),
        }
    }
}

/// Deletes a letter; it is gone for good when this returns. Returns whether there was one.
pub(crate) async fn delete(store: &Embedded, id: EnvelopeId) -> Result<bool, PortError> {
    match store.remove_letter(id)? {
        Some(op) => store.durable(op).await.map(|()| true),
        None => Ok(false),
    }
}

/// What became of one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum One {
    /// Its message was sent again.
    Sent,
    /// There is no such letter.
    Unknown,
    /// A record that never was a message.
    Malformed,
    /// Its message may have been applied, and sending it anyway was not asked for.
    MayBeApplied,
}

/// What a replay of all letters did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AllReplayed {
    pub(crate) sent: usize,
    /// Records that never were a message.
    pub(crate) malformed: usize,
    /// Letters that were left, as [`One::MayBeApplied`].
    pub(crate) may_be_applied: usize,
}

/// Deletes all letters of records that could not be read; durable when it returns. Returns how many there were.
pub(crate) async fn delete_malformed(store: &Embedded) -> Result<usize, PortError> {
    let (mut deleted, mut after, mut last) = (0, None, None);
    loop {
        let page = store.letters(after, PAGE)?;
        let Some(end) = page.last() else { break };
        after = Some((end.at(), end.id()));
        for letter in page.iter().filter(|letter| matches!(letter, Letter::Malformed(_))) {
            if let Some(op) = store.remove_letter(letter.id())? {
                deleted += 1;
                last = Some(op);
            }
        }
    }
    if let Some(op) = last {
        store.durable(op).await?;
    }
    Ok(deleted)
}

/// Whether a letter's message may have been applied: sent again, it would be applied a second time.
pub(crate) fn may_be_applied(letter: &Letter) -> bool {
    matches!(letter, Letter::Dead(dead) if dead.reason.may_be_applied())
}

/// Sends one letter again; durable when it returns. `anyway`: even if its message may have been applied.
pub(crate) async fn replay(store: &Embedded, id: EnvelopeId, anyway: bool) -> Result<One, PortError> {
    if !anyway && store.letter(id)?.as_ref().is_some_and(may_be_applied) {
        return Ok(One::MayBeApplied);
    }
    match store.replay(id).await? {
        Replayed::Sent { op, .. } => store.durable(op).await.map(|()| One::Sent),
        Replayed::Unknown => Ok(One::Unknown),
        Replayed::Malformed => Ok(One::Malformed),
    }
}

/// Sends all letters again that are there now; durable when it returns. `anyway`: those, too, whose message may have been applied.
pub(crate) async fn replay_all(store: &Embedded, anyway: bool) -> Result<AllReplayed, PortError> {
    // Those that fail again meanwhile come back as other letters. Their times would not tell them apart: the clock may be set.
    let ids = store.letter_ids()?;
    let (mut all, mut last) = (AllReplayed::default(), None);
    for id in ids {
        if !anyway && store.letter(id)?.as_ref().is_some_and(may_be_applied) {
            all.may_be_applied += 1;
            continue;
        }
        match store.replay(id).await? {
            Replayed::Sent { op, .. } => {
                all.sent += 1;
                last = Some(op);
            }
            Replayed::Malformed => all.malformed += 1,
            Replayed::Unknown => {}
        }
    }
    if let Some(op) = last {
        store.durable(op).await?;
    }
    Ok(all)
}
