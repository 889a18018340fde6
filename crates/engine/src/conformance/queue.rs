//! Rules of the queues.

use std::time::Duration;

use statefun_core::{Address, Envelope};

use super::{
    Backend, Check, Finding, ensure,
    sample::{address, envelope},
    works,
};
use crate::ports::{Delivery, QueueConsumer};

pub(super) async fn check(backend: &dyn Backend) -> Check {
    order_and_exclusion(backend).await?;
    giving_back(backend).await?;
    copies(backend).await?;
    content(backend).await
}

async fn send(backend: &dyn Backend, to: &Address, number: u64) -> Result<Envelope, Finding> {
    let envelope = envelope(to, number, backend.now());
    let results = backend.queue().send(&[&envelope]).await;
    ensure_len(&results, 1)?;
    for result in results {
        works("send", result)?;
    }
    Ok(envelope)
}

fn ensure_len<T>(results: &[T], expected: usize) -> Check {
    ensure!(results.len() == expected, "send: {} results for {expected} envelopes", results.len());
    Ok(())
}

/// Receives until nothing more comes; queues may give few at a time.
async fn receive(consumer: &dyn QueueConsumer) -> Result<Vec<Delivery>, Finding> {
    let mut all: Vec<Delivery> = Vec::new();
    loop {
        let more = works("receive", consumer.receive(10).await)?;
        if more.is_empty() {
            return Ok(all);
        }
        all.extend(more);
    }
}

async fn acknowledge(consumer: &dyn QueueConsumer, deliveries: &[Delivery]) -> Check {
    for delivery in deliveries {
        works("acknowledge", consumer.acknowledge(&delivery.receipt).await)?;
    }
    Ok(())
}

fn of<'a>(deliveries: &'a [Delivery], to: &Address) -> Vec<&'a Delivery> {
    deliveries.iter().filter(|delivery| delivery.delivered.envelope.to == *to).collect()
}

/// Everything of an address, over as many receives as it takes, each acknowledged before the next.
async fn all_in_turn(consumer: &dyn QueueConsumer, to: &Address, expected: usize) -> Result<Vec<Delivery>, Finding> {
    let mut all = Vec::new();
    while all.len() < expected {
        let more = receive(consumer).await?;
        ensure!(!more.is_empty(), "receive: only {} of {expected} envelopes for {to} came", all.len());
        acknowledge(consumer, &more).await?;
        all.extend(more.into_iter().filter(|delivery| delivery.delivered.envelope.to == *to));
    }
    Ok(all)
}

async fn order_and_exclusion(backend: &dyn Backend) -> Check {
    let (one, two) = (address("fifo-1"), address("fifo-2"));
    let consumer = backend.consumer();
    for number in 200..210 {
        send(backend, &one, number).await?;
    }
    let other = envelope(&two, 300, backend.now());
    let more = envelope(&one, 210, backend.now());
    let results = backend.queue().send(&[&other, &more]).await;
    ensure_len(&results, 2)?;
    let first = receive(&*consumer).await?;
    let taken = of(&first, &one);
    ensure!(!taken.is_empty() && !of(&first, &two).is_empty(), "receive: an address that is delivered held up another");
    let ids: Vec<_> = taken.iter().map(|delivery| delivery.delivered.envelope.id).collect();
    let sent: Vec<_> = (200..211).map(super::sample::id).collect();
    ensure!(sent.starts_with(&ids), "receive: {ids:?} is not the beginning of what was sent");
    let seqs: Vec<_> = taken.iter().map(|delivery| delivery.delivered.seq.seq).collect();
    ensure!(seqs.is_sorted_by(|a, b| a < b), "receive: sequence numbers {seqs:?} do not rise");
    acknowledge(&*consumer, &first).await?;
    let rest = all_in_turn(&*consumer, &one, sent.len() - ids.len()).await?;
    let rest: Vec<_> = rest.iter().map(|delivery| delivery.delivered.envelope.id).collect();
    ensure!(sent.ends_with(&rest), "receive: the rest came as {rest:?}");
    Ok(())
}

async fn giving_back(backend: &dyn Backend) -> Check {
    let to = address("fifo-back");
    let consumer = backend.consumer();
    send(backend, &to, 400).await?;
    send(backend, &to, 401).await?;
    let first = receive(&*consumer).await?;
    ensure!(
        first.iter().all(|delivery| delivery.delivered.receive_count == 1),
        "receive: the first delivery is not counted as 1"
    );
    // In the order of the queue: nothing later may overtake.
    for delivery in &first {
        works("give back", consumer.give_back(&delivery.receipt, Duration::ZERO).await)?;
    }
    let again = receive(&*consumer).await?;
    let head = again.first().ok_or("give back: the envelope did not come again")?;
    ensure!(head.delivered.envelope.id == super::sample::id(400), "give back: the envelope was overtaken");
    ensure!(head.delivered.receive_count == 2, "give back: the second delivery is counted as {}", head.delivered.receive_count);
    ensure!(head.delivered.seq == first[0].delivered.seq, "give back: the sequence number changed");
    if let Some(stale) = first.first() {
        // A receipt of an earlier delivery may fail or be ignored, but not delete.
        let _ = consumer.acknowledge(&stale.receipt).await;
    }
    for delivery in &again {
        works("give back", consumer.give_back(&delivery.receipt, Duration::ZERO).await)?;
    }
    all_in_turn(&*consumer, &to, 2).await?;
    Ok(())
}

async fn copies(backend: &dyn Backend) -> Check {
    let to = address("fifo-copies");
    let consumer = backend.consumer();
    let envelope = send(backend, &to, 500).await?;
    for result in backend.queue().send(&[&envelope]).await {
        works("send", result)?;
    }
    let first = all_in_turn(&*consumer, &to, 1).await?;
    ensure!(first.len() == 1, "send: a copy within the deduplication window was accepted");
    for result in backend.queue().send(&[&envelope]).await {
        works("send", result)?;
    }
    let again = receive(&*consumer).await?;
    ensure!(again.is_empty(), "send: a copy of an acknowledged envelope was accepted within the deduplication window");
    Ok(())
}

async fn content(backend: &dyn Backend) -> Check {
    let to = address("fifo-content / \"ü\"");
    let consumer = backend.consumer();
    let before = backend.now();
    let sent = send(backend, &to, 601).await?;
    let mut received = all_in_turn(&*consumer, &to, 1).await?;
    let delivered = received.remove(0).delivered;
    ensure!(*delivered.envelope == sent, "receive: the envelope came back changed");
    let earliest = before.minus(Duration::from_secs(60));
    ensure!(delivered.enqueued_at >= earliest, "receive: enqueued at {}, long before it was sent", delivered.enqueued_at);
    Ok(())
}
