//! Commands that look into a folder while no host has it.

use std::path::Path;

use statefun_core::{Address, EnvelopeId};
use statefun_embedded::{Embedded, Letter, OpenError, Options, SystemClock};

use super::{
    args::DeadLetters,
    output::{cell, print, table},
};
use crate::{
    error::HostError,
    http::{Noted, noted_address},
    letters::{self, One},
    views::{InstanceView, LetterView},
};

/// Characters of an error in a table.
const ERROR_CHARS: usize = 80;

pub(super) async fn dead_letters(command: DeadLetters, data: &Path) -> Result<(), HostError> {
    match command {
        DeadLetters::List { json } => {
            let store = open(data, "curl", "dead-letters")?;
            let listed = if json { list_json(&store) } else { list(&store) };
            close(store, listed).await
        }
        DeadLetters::Replay { all, may_be_applied, ids } => {
            let ids = parse_ids(&ids)?;
            let path = if all { "dead-letters/replay" } else { "dead-letters/ID/replay" };
            let asked = if may_be_applied { "?may_be_applied=true" } else { "" };
            let store = open(data, "curl -X POST", &format!("{path}{asked}"))?;
            let replayed =
                if all { replay_all(&store, may_be_applied).await } else { replay(&store, &ids, may_be_applied).await };
            close(store, replayed).await
        }
        DeadLetters::Delete { malformed, ids } => {
            let ids = parse_ids(&ids)?;
            let route = if malformed { "dead-letters?malformed=true" } else { "dead-letters/ID" };
            let store = open(data, "curl -X DELETE", route)?;
            let deleted = if malformed { delete_malformed(&store).await } else { delete(&store, &ids).await };
            close(store, deleted).await
        }
    }
}

pub(super) async fn state(address: &str, json: bool, data: &Path) -> Result<(), HostError> {
    let address = Address::parse(address).map_err(|error| HostError::Config(vec![error.to_string()]))?;
    let store = open(data, "curl", &format!("state/{address}"))?;
    let shown = show(&store, &address, json);
    close(store, shown).await
}

fn show(store: &Embedded, address: &Address, json: bool) -> Result<(), HostError> {
    let Some(record) = store.record(address)? else {
        return Err(HostError::Missing(format!("{address} has no state: it was never invoked")));
    };
    let view = InstanceView::new(address, &record);
    if json {
        return print(&line(&view));
    }
    let rows: Vec<_> = view.rows().collect();
    print(&format!("{}\n{}", view.summary(), table(&rows)))
}

fn line(value: &impl serde::Serialize) -> String {
    // Strings, numbers and maps with string keys: serde_json cannot fail on these.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

fn list_json(store: &Embedded) -> Result<(), HostError> {
    letters::for_each(store, |letter| print(&line(&LetterView::from(letter))))
}

fn list(store: &Embedded) -> Result<(), HostError> {
    let mut rows = vec![["ID", "AT", "REASON", "TRIES", "WHERE", "ERROR"].map(str::to_owned)];
    letters::for_each(store, |letter: &Letter| {
        let LetterView { id, at, mut reason, error, attempts, may_be_applied, to, source, position, egress, .. } =
            LetterView::from(letter);
        if may_be_applied {
            reason.push_str(" (may have been applied)");
        }
        let place = to.or(egress).unwrap_or_else(|| format!("{}, {}", source.unwrap_or_default(), position.unwrap_or_default()));
        rows.push([id, at, reason, attempts.to_string(), cell(&place, ERROR_CHARS), cell(&error, ERROR_CHARS)]);
        Ok::<(), HostError>(())
    })?;
    match rows.len() {
        1 => print("no dead letters\n"),
        _ => print(&table(&rows)),
    }
}

fn parse_ids(ids: &[String]) -> Result<Vec<EnvelopeId>, HostError> {
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    for text in ids {
        match EnvelopeId::from_hex(text) {
            Some(id) => good.push(id),
            None => problems.push(format!("`{text}` is not the id of a dead letter: it has 32 hexadecimal digits")),
        }
    }
    if problems.is_empty() { Ok(good) } else { Err(HostError::Config(problems)) }
}

async fn replay(store: &Embedded, ids: &[EnvelopeId], may_be_applied: bool) -> Result<(), HostError> {
    let (mut sent, mut problems) = (0, Vec::new());
    for id in ids {
        match letters::replay(store, *id, may_be_applied).await? {
            One::Sent => sent += 1,
            One::Unknown => problems.push(format!("there is no dead letter {id}")),
            One::Malformed => problems.push(format!("{id} is a row that could not be read: fix the input and send it again")),
            One::MayBeApplied => problems
                .push(format!("the message of {id} may have been applied: look at its instance, then add --may-be-applied")),
        }
    }
    print(&format!("{sent} sent again; they run when the application is next started\n"))?;
    if problems.is_empty() { Ok(()) } else { Err(HostError::Config(problems)) }
}

async fn delete(store: &Embedded, ids: &[EnvelopeId]) -> Result<(), HostError> {
    let (mut deleted, mut problems) = (0, Vec::new());
    for id in ids {
        match letters::delete(store, *id).await? {
            true => deleted += 1,
            false => problems.push(format!("there is no dead letter {id}")),
        }
    }
    print(&format!("{deleted} deleted\n"))?;
    if problems.is_empty() { Ok(()) } else { Err(HostError::Config(problems)) }
}

async fn replay_all(store: &Embedded, may_be_applied: bool) -> Result<(), HostError> {
    let all = letters::replay_all(store, may_be_applied).await?;
    let mut kept = String::new();
    if all.malformed > 0 {
        kept += &format!(" {} rows that could not be read are kept.", all.malformed);
    }
    if all.may_be_applied > 0 {
        kept += &format!(
            " {} that may have been applied are kept: look at their instances, then replay by ids and with --may-be-applied.",
            all.may_be_applied
        );
    }
    print(&format!("{} sent again; they run when the application is next started.{kept}\n", all.sent))
}

async fn delete_malformed(store: &Embedded) -> Result<(), HostError> {
    let deleted = letters::delete_malformed(store).await?;
    print(&format!("{deleted} deleted\n"))
}

/// Opens a folder that must be there. If a host has it, `request` of its route says the same.
fn open(data: &Path, request: &str, route: &str) -> Result<Embedded, HostError> {
    if !data.exists() {
        return Err(HostError::Missing(format!("there is no data folder {}: name it with --data", data.display())));
    }
    Embedded::open(data, Options::default(), std::sync::Arc::new(SystemClock)).map_err(|error| match error {
        OpenError::Locked { pid, .. } => {
            let advice = match noted_address(data) {
                Some(Noted { address, token: false }) => {
                    format!("ask it with `{request} http://{address}/_/{route}`, or stop it")
                }
                Some(Noted { address, token: true }) => format!(
                    "ask it with `{request} -H \"Authorization: Bearer $STATEFUN_TOKEN\" http://{address}/_/{route}`, or stop it"
                ),
                None => "it does not listen: wait for its end, or stop it".to_owned(),
            };
            HostError::InUse { data: data.display().to_string(), pid, advice }
        }
        other => other.into(),
    })
}

async fn close(store: Embedded, result: Result<(), HostError>) -> Result<(), HostError> {
    let closed = store.close().await;
    result.and_then(|()| Ok(closed?))
}
