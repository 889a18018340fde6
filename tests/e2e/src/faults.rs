//! What the proxy is to do with which call: the faults that no emulator has by itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use hyper::{Request, StatusCode};

/// One call of a service: whose, which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The account that made it.
    pub(crate) account: String,
    /// As in the signature: `dynamodb`, `sqs`, `sns`, `kinesis`.
    pub(crate) service: String,
    /// `UpdateItem`, `SendMessageBatch`.
    pub(crate) action: String,
}

impl Call {
    /// Reads it from a request: the signature's scope, and the target's header or the form's `Action`.
    pub(crate) fn of(request: &Request<Bytes>) -> Option<Self> {
        let header = |name| request.headers().get(name)?.to_str().ok();
        let (_, scope) = header("authorization")?.split_once("Credential=")?;
        let mut scope = scope.split([',', ' ']).next()?.split('/');
        let (account, service) = (scope.next()?.to_owned(), scope.nth(2)?.to_owned());
        let form = || std::str::from_utf8(request.body()).ok()?.split('&').find_map(|field| field.strip_prefix("Action="));
        let action = header("x-amz-target").and_then(|target| target.rsplit('.').next()).or_else(form)?.to_owned();
        Some(Self { account, service, action })
    }
}

/// What is done to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The service says that it is overloaded; nothing takes effect.
    Throttle,
    /// The service fails; nothing takes effect.
    Fail,
    /// The call takes effect, but its answer is lost with the connection.
    LoseAnswer,
    /// A write is refused because somebody else's transaction is on the same item. For DynamoDB.
    Conflict,
    /// Some entries of a batch are refused, the others are sent. For `SendMessageBatch` of SQS.
    FailEntries,
    /// The call waits before it is made.
    Delay(Duration),
    /// The caller has no permission.
    Deny,
    /// The table, queue, topic or stream is not there.
    Missing,
}

/// A fault, for which calls, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) account: String,
    pub(crate) service: &'static str,
    pub(crate) actions: &'static [&'static str],
    pub(crate) fault: Fault,
    /// 0.0 to 1.0. Whatever it is, the fifth call that the rule is for is struck.
    pub(crate) probability: f64,
}

/// The call that a rule strikes for certain, so that no run is without its faults.
const SURE: u64 = 5;

impl Rule {
    fn is_for(&self, call: &Call) -> bool {
        self.account == call.account && self.service == call.service && self.actions.contains(&call.action.as_str())
    }
}

/// The rules, what they decided, and how many calls there were.
#[derive(Debug)]
pub(crate) struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    /// With the calls that each was asked about.
    rules: Vec<(Rule, u64)>,
    rng: fastrand::Rng,
    calls: BTreeMap<(String, String), u64>,
    struck: BTreeMap<(String, String), u64>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let state =
            State { rules: Vec::new(), rng: fastrand::Rng::with_seed(seed), calls: BTreeMap::new(), struck: BTreeMap::new() };
        Self(Mutex::new(state))
    }

    pub(crate) fn add(&self, rules: impl IntoIterator<Item = Rule>) {
        self.lock().rules.extend(rules.into_iter().map(|rule| (rule, 0)));
    }

    /// From now on this account's calls go well.
    pub(crate) fn clear(&self, account: &str) {
        self.lock().rules.retain(|(rule, _)| rule.account != account);
    }

    /// Calls of an account so far, by `service.Action`.
    pub(crate) fn calls(&self, account: &str) -> BTreeMap<String, u64> {
        counts(&self.lock().calls, account)
    }

    /// Faults that struck an account so far, by `service.Action Fault`.
    pub(crate) fn struck(&self, account: &str) -> BTreeMap<String, u64> {
        counts(&self.lock().struck, account)
    }

    /// What is to be done to this call.
    pub(crate) fn decide(&self, call: &Call) -> Option<Fault> {
        let state = &mut *self.lock();
        let name = format!("{}.{}", call.service, call.action);
        *state.calls.entry((call.account.clone(), name.clone())).or_default() += 1;
        let State { rules, rng, struck, .. } = state;
        let mut strikes = None;
        for (rule, asked) in rules.iter_mut().filter(|entry| entry.0.is_for(call)) {
            *asked += 1;
            if *asked == SURE || rng.f64() < rule.probability {
                strikes = Some(rule.fault);
                break;
            }
        }
        let fault = strikes?;
        let key = (call.account.clone(), format!("{name} {fault:?}"));
        *struck.entry(key).or_default() += 1;
        Some(fault)
    }

    /// This fault had nothing to strike after all: the next call will do.
    pub(crate) fn missed(&self, call: &Call, fault: Fault) {
        let state = &mut *self.lock();
        let key = (call.account.clone(), format!("{}.{} {fault:?}", call.service, call.action));
        if let Some(struck) = state.struck.get_mut(&key) {
            *struck -= 1;
        }
        for (_, asked) in state.rules.iter_mut().filter(|entry| entry.0.is_for(call) && entry.0.fault == fault && entry.1 >= SURE)
        {
            *asked = SURE - 1;
        }
    }

    /// A number below `end`, for faults that strike only a part.
    pub(crate) fn below(&self, end: usize) -> usize {
        self.lock().rng.usize(..end.max(1))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counts(map: &BTreeMap<(String, String), u64>, account: &str) -> BTreeMap<String, u64> {
    let theirs = map.iter().filter(|((whose, _), count)| whose == account && **count > 0);
    theirs.map(|((_, name), count)| (name.clone(), *count)).collect()
}

/// A service's own words for a fault: status, error code, body.
pub(crate) fn refusal(call: &Call, fault: Fault) -> (StatusCode, String) {
    let (status, code) = match (fault, call.service.as_str()) {
        (Fault::Conflict, _) if call.action == "TransactWriteItems" => {
            let reasons = r#"[{"Code":"TransactionConflict","Message":"Transaction is ongoing for the item"}]"#;
            let message = "Transaction cancelled, please refer cancellation reasons for specific reasons [TransactionConflict]";
            let kind = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException";
            return (
                StatusCode::BAD_REQUEST,
                format!(r#"{{"__type":"{kind}","message":"{message}","Message":"{message}","CancellationReasons":{reasons}}}"#),
            );
        }
        (Fault::Conflict, _) => (StatusCode::BAD_REQUEST, "com.amazonaws.dynamodb.v20120810#TransactionConflictException"),
        (Fault::Deny, _) => (StatusCode::BAD_REQUEST, "AccessDeniedException"),
        (Fault::Missing, "sqs") => (StatusCode::BAD_REQUEST, "com.amazonaws.sqs#QueueDoesNotExist"),
        (Fault::Missing, "sns") => (StatusCode::NOT_FOUND, "NotFound"),
        (Fault::Missing, _) => (StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
        (Fault::Throttle, "dynamodb") => {
            (StatusCode::BAD_REQUEST, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")
        }
        (Fault::Throttle, "sqs") => (StatusCode::FORBIDDEN, "com.amazonaws.sqs#RequestThrottled"),
        (Fault::Throttle, "kinesis") => (StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException"),
        (Fault::Throttle, _) => (StatusCode::BAD_REQUEST, "Throttling"),
        (_, "dynamodb") => (StatusCode::INTERNAL_SERVER_ERROR, "com.amazonaws.dynamodb.v20120810#InternalServerError"),
        (..) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
    };
    let message = "injected by the test";
    let body = if call.service == "sns" {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
        )
    } else {
        format!(r#"{{"__type":"{code}","message":"{message}"}}"#)
    };
    (status, body)
}

/// Takes one entry out of a batch to SQS; returns the smaller batch and the entry's id. `None` if it is not such a batch, or has
/// but one entry.
pub(crate) fn without_entry(body: &[u8], pick: impl Fn(usize) -> usize) -> Option<(Bytes, String)> {
    let mut batch: serde_json::Value = serde_json::from_slice(body).ok()?;
    let entries = batch.get_mut("Entries")?.as_array_mut()?;
    if entries.len() < 2 {
        return None;
    }
    let entry = entries.remove(pick(entries.len()));
    let id = entry.get("Id")?.as_str()?.to_owned();
    Some((batch.to_string().into(), id))
}

/// Adds a failed entry to the answer to a batch.
pub(crate) fn with_failed_entry(body: &[u8], id: &str) -> Option<Bytes> {
    let mut answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let failed = answer.as_object_mut()?.entry("Failed").or_insert_with(|| serde_json::json!([]));
    let entry = serde_json::json!({"Id": id, "SenderFault": false, "Code": "InternalError", "Message": "injected by the test"});
    failed.as_array_mut()?.push(entry);
    Some(answer.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: Option<&str>, body: &'static str) -> Request<Bytes> {
        let signature = "AWS4-HMAC-SHA256 Credential=111111111111/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host";
        let request = Request::builder().header("authorization", signature);
        let request = target.into_iter().fold(request, |request, target| request.header("x-amz-target", target));
        request.body(Bytes::from_static(body.as_bytes())).unwrap()
    }

    fn call(action: &str) -> Call {
        Call { account: "111111111111".to_owned(), service: "dynamodb".to_owned(), action: action.to_owned() }
    }

    #[test]
    fn calls_are_told_by_signature_and_target_or_form() {
        assert_eq!(Call::of(&request(Some("DynamoDB_20120810.UpdateItem"), "{}")), Some(call("UpdateItem")));
        assert_eq!(Call::of(&request(None, "Version=1&Action=Publish&Message=x")), Some(call("Publish")));
        assert_eq!(Call::of(&request(None, "{}")), None);
        assert_eq!(Call::of(&Request::new(Bytes::new())), None);
    }

    #[test]
    fn rules_strike_their_own_account_and_are_counted() {
        let faults = Faults::new(1);
        let rule = |account: &str| Rule {
            account: account.to_owned(),
            service: "dynamodb",
            actions: &["UpdateItem"],
            fault: Fault::Throttle,
            probability: 1.0,
        };
        faults.add([rule("222222222222")]);
        assert_eq!(faults.decide(&call("UpdateItem")), None);
        faults.add([rule("111111111111")]);
        assert_eq!(faults.decide(&call("UpdateItem")), Some(Fault::Throttle));
        assert_eq!(faults.decide(&call("GetItem")), None);
        faults.clear("111111111111");
        assert_eq!(faults.decide(&call("UpdateItem")), None);
        assert_eq!(faults.calls("111111111111")["dynamodb.UpdateItem"], 3);
        assert_eq!(faults.struck("111111111111")["dynamodb.UpdateItem Throttle"], 1);
    }

    #[test]
    fn the_same_seed_decides_the_same() {
        let decide = |seed| {
            let faults = Faults::new(seed);
            let (account, actions) = ("111111111111".to_owned(), &["UpdateItem"]);
            faults.add([Rule { account, service: "dynamodb", actions, fault: Fault::Fail, probability: 0.5 }]);
            (0..64).map(|_| faults.decide(&call("UpdateItem")).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(decide(7), decide(7));
        assert_ne!(decide(7), decide(8));
        assert!(decide(7).contains(&true) && decide(7).contains(&false));
    }

    #[test]
    fn an_entry_of_a_batch_fails() {
        let batch = br#"{"QueueUrl":"q","Entries":[{"Id":"0","MessageBody":"a"},{"Id":"1","MessageBody":"b"}]}"#;
        let (rest, id) = without_entry(batch, |_| 1).unwrap();
        assert_eq!((rest, id.as_str()), (r#"{"Entries":[{"Id":"0","MessageBody":"a"}],"QueueUrl":"q"}"#.into(), "1"));
        assert_eq!(without_entry(br#"{"Entries":[{"Id":"0"}]}"#, |_| 0), None);
        let answer: serde_json::Value =
            serde_json::from_slice(&with_failed_entry(br#"{"Successful":[]}"#, "1").unwrap()).unwrap();
        assert_eq!(answer["Failed"][0]["Id"], "1");
    }
}
