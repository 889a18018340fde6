//! Which messages go together into one request.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use statefun_core::protocol::InOrder;
use statefun_engine::ports::{PortError, PortErrorKind};

use super::{CALL, message::Message};

/// Entries of one batch request to SQS or SNS.
const MAX_ENTRIES: usize = 10;

/// Requests to one sink that may be under way at a time.
const PARALLEL: usize = 8;

/// A queue or topic that takes a batch in one request.
#[async_trait]
pub(super) trait Batches: Sync {
    /// Bytes of one request.
    fn max_bytes(&self) -> usize;

    /// Sends the messages in one request; one result per message.
    async fn send(&self, batch: &[&Message]) -> Vec<Result<(), PortError>>;
}

/// Sends messages; one result per message. Those of a group go one after the other, and after a failed one no later one is sent.
pub(super) async fn deliver(sink: &dyn Batches, messages: &[Message]) -> Vec<Result<(), PortError>> {
    let mut results: Vec<Option<Result<(), PortError>>> = messages.iter().map(|_| None).collect();
    let mut order = InOrder::of_groups(messages.iter().map(Message::group));
    loop {
        let now = order.choose(messages.len());
        if now.is_empty() {
            break;
        }
        let requests = packed(&now, sink.max_bytes(), |index| messages[index].bytes());
        let mut sent = stream::iter(requests).map(|request| async move {
            let batch: Vec<_> = request.iter().map(|index| &messages[*index]).collect();
            let mut answers = sink.send(&batch).await;
            // The answer does not say which of them: each is asked about by itself.
            if is_unclear(&answers) {
                answers.clear();
                for message in batch {
                    answers.extend(sink.send(&[message]).await);
                }
            }
            (request, answers)
        });
        let sent: Vec<_> = sent.by_ref().buffer_unordered(PARALLEL).collect().await;
        for (index, result) in sent.into_iter().flat_map(|(request, answers)| request.into_iter().zip(answers)) {
            results[index] = Some(result);
        }
        order.called(now.into_iter().map(|index| (index, matches!(results[index], Some(Ok(()))))));
    }
    results.into_iter().map(|result| result.unwrap_or_else(|| Err(behind_a_failed_one()))).collect()
}

/// Whether a request of several records was refused for what is in them: one bad one is enough for that.
pub(super) fn is_unclear(answers: &[Result<(), PortError>]) -> bool {
    let rejected = |answer: &Result<(), PortError>| matches!(answer, Err(error) if error.kind == PortErrorKind::Rejected);
    answers.len() > 1 && answers.iter().all(rejected)
}

/// Cuts into requests of at most so many entries and bytes; one that is too big by itself goes alone.
pub(super) fn packed(indices: &[usize], max_bytes: usize, bytes_of: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    packed_by(indices, MAX_ENTRIES, max_bytes, bytes_of)
}

pub(super) fn packed_by(
    indices: &[usize],
    max_entries: usize,
    max_bytes: usize,
    bytes_of: impl Fn(usize) -> usize,
) -> Vec<Vec<usize>> {
    let mut requests: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for index in indices {
        let more = bytes_of(*index);
        match requests.last_mut() {
            Some(request) if request.len() < max_entries && bytes + more <= max_bytes => request.push(*index),
            _ => {
                requests.push(vec![*index]);
                bytes = 0;
            }
        }
        bytes += more;
    }
    requests
}

fn behind_a_failed_one() -> PortError {
    PortError::new(CALL, PortErrorKind::Unavailable, "not sent: an earlier record of the same sender failed")
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Mutex};

    use proptest::prelude::*;
    use statefun_core::{BuiltInForm, TypeName, TypedValue};

    use super::{super::tests::record, *};

    /// Group and body of each entry.
    type Request = Vec<(Option<String>, String)>;

    /// Takes what it is sent, but fails the messages whose body is in `failing`.
    #[derive(Default)]
    struct Fake {
        failing: HashSet<String>,
        requests: Mutex<Vec<Request>>,
    }

    #[async_trait]
    impl Batches for Fake {
        fn max_bytes(&self) -> usize {
            1_000
        }

        async fn send(&self, batch: &[&Message]) -> Vec<Result<(), PortError>> {
            let entries = batch.iter().map(|message| (message.group().map(str::to_owned), message.body.clone())).collect();
            self.requests.lock().unwrap().push(entries);
            let failed = || Err(PortError::new(CALL, PortErrorKind::Throttled, "fake"));
            batch.iter().map(|message| if self.failing.contains(&message.body) { failed() } else { Ok(()) }).collect()
        }
    }

    fn messages(senders: &[u8], fifo: bool) -> Vec<Message> {
        let message = |(number, sender): (usize, &u8)| {
            let value = TypedValue::present(TypeName::from_static("a/b"), number.to_string());
            Message::of(&record(number as u8, &sender.to_string(), value), fifo, BuiltInForm::Text)
        };
        senders.iter().enumerate().map(message).collect()
    }

    fn run(fake: &Fake, messages: &[Message]) -> Vec<bool> {
        let results = futures_util::future::FutureExt::now_or_never(deliver(fake, messages)).unwrap();
        results.iter().map(Result::is_ok).collect()
    }

    #[test]
    fn without_groups_the_fewest_requests() {
        let fake = Fake::default();
        assert_eq!(run(&fake, &messages(&[1; 25], false)), [true; 25]);
        // An entry has about 100 bytes.
        let sizes: Vec<_> = fake.requests.lock().unwrap().iter().map(Vec::len).collect();
        assert!(sizes.iter().all(|entries| (8..=10).contains(entries) || sizes.len() == 4), "{sizes:?}");
        assert_eq!(packed(&(0..25).collect::<Vec<_>>(), 1_000, |_| 1).iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(packed(&[0, 1, 2], 10, |index| [4, 6, 11][index]), [vec![0, 1], vec![2]]);
    }

    #[test]
    fn after_a_failed_one_nothing_later_of_its_group() {
        let fake = Fake { failing: ["1".to_owned()].into(), ..Fake::default() };
        assert_eq!(run(&fake, &messages(&[7, 8, 7, 8, 8], true)), [true, false, true, false, false]);
        let sent: usize = fake.requests.lock().unwrap().iter().map(Vec::len).sum();
        assert_eq!(sent, 3);
    }

    proptest! {
        #[test]
        fn groups_keep_their_order(senders in proptest::collection::vec(0..4_u8, 0..40), failing in proptest::collection::hash_set(0..40_usize, 0..6)) {
            let fake = Fake { failing: failing.iter().map(usize::to_string).collect(), ..Fake::default() };
            let ok = run(&fake, &messages(&senders, true));
            let expected: Vec<bool> = (0..senders.len())
                .map(|index| !(0..=index).any(|earlier| senders[earlier] == senders[index] && failing.contains(&earlier)))
                .collect();
            prop_assert_eq!(ok, expected);
            let requests = fake.requests.lock().unwrap();
            let mut last = std::collections::HashMap::new();
            for request in requests.iter() {
                let groups: HashSet<_> = request.iter().map(|(group, _)| group).collect();
                prop_assert_eq!(groups.len(), request.len());
                for (group, body) in request {
                    let number: usize = body.parse().unwrap();
                    prop_assert!(last.insert(group, number).is_none_or(|before| before < number));
                }
            }
        }
    }
}
