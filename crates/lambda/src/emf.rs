//! Metrics for CloudWatch: lines in the embedded metric format on the standard output, from which CloudWatch Logs makes metrics
//! without a call. Namespace `StateFun`.
//!
//! | metric | dimension | value |
//! |---|---|---|
//! | the engine's counters | `function`: the type | the increase since the line before, once a minute and when the environment ends |
//! | [`OVERDUE`] | `lambda` | outboxes that stand although they were nudged for days, in the part of the table that was swept |
//! | [`FAILING_AGE`] | `lambda`: the Lambda's name | age in seconds of the oldest message of a batch that has to come again |

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Map, Value, json};
use statefun_core::{Timestamp, TypeName};
use statefun_engine::{
    metrics::Metrics,
    ports::{Clock, Moment},
};

/// The metrics' namespace.
const NAMESPACE: &str = "StateFun";

/// What `template.yaml` has alarms on.
const FAILING_AGE: &str = "statefun_failing_age_seconds";
const OVERDUE: &str = "statefun_overdue_outboxes";

/// How often an environment writes its counters. CloudWatch counts by the minute; a line at each invocation would cost more than what it is about.
const EVERY: Duration = Duration::from_secs(60);

/// Knows what was reported already.
#[derive(Debug, Default)]
pub(crate) struct Emf {
    told: Mutex<BTreeMap<TypeName, Vec<u64>>>,
    /// When the counters were written last, or the environment began.
    last: Mutex<Moment>,
    /// The Lambda's name. Elsewhere there is none.
    lambda: Option<String>,
    #[cfg(test)]
    pub(crate) written: Mutex<String>,
}

impl Emf {
    pub(crate) fn new(lambda: Option<String>, started: Moment) -> Self {
        Self { lambda, last: Mutex::new(started), ..Self::default() }
    }

    /// Tells of messages that have to come again, by when they were sent. One that fails now and then is young; what is old waits
    /// for something to be fixed, whatever that is.
    pub(crate) fn failing(&self, sent: impl IntoIterator<Item = Timestamp>, now: Timestamp) {
        self.write(&self.failing_line(sent, now));
    }

    fn failing_line(&self, sent: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> String {
        let (Some(lambda), Some(oldest)) = (&self.lambda, sent.into_iter().min()) else { return String::new() };
        let values = Map::from_iter([(FAILING_AGE.to_owned(), now.since(oldest).as_secs().into())]);
        line("lambda", lambda, values, "Seconds", now)
    }

    /// Reports outboxes that stand although they were nudged.
    pub(crate) fn overdue(&self, outboxes: usize, now: Timestamp) {
        self.write(&self.overdue_line(outboxes, now));
    }

    fn overdue_line(&self, outboxes: usize, now: Timestamp) -> String {
        let Some(lambda) = self.lambda.as_ref().filter(|_| outboxes > 0) else { return String::new() };
        line("lambda", lambda, Map::from_iter([(OVERDUE.to_owned(), outboxes.into())]), "Count", now)
    }

    /// Writes what rose since the last time, if that is a minute ago.
    pub(crate) fn emit_now_and_then(&self, metrics: &Metrics, clock: &dyn Clock) {
        let moment = clock.moment();
        let is_due = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = moment.since(*last) >= EVERY;
            if is_due {
                *last = moment;
            }
            is_due
        };
        if is_due {
            self.emit(metrics, clock.now());
        }
    }

    /// Writes what rose since the last time, one line per function.
    pub(crate) fn emit(&self, metrics: &Metrics, now: Timestamp) {
        self.write(&self.lines(metrics, now));
    }

    fn lines(&self, metrics: &Metrics, now: Timestamp) -> String {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = String::new();
        for (function, counters) in metrics.iter() {
            let told = told.entry(function.clone()).or_default();
            let mut rises = Map::new();
            for (index, (name, _, value)) in counters.read().enumerate() {
                if told.len() <= index {
                    told.push(0);
                }
                if value > told[index] {
                    rises.insert(name.to_owned(), (value - told[index]).into());
                    told[index] = value;
                }
            }
            if !rises.is_empty() {
                lines.push_str(&line("function", function.as_str(), rises, "Count", now));
            }
        }
        lines
    }

    fn write(&self, lines: &str) {
        #[cfg(test)]
        self.written.lock().unwrap().push_str(lines);
        if !cfg!(test) && !lines.is_empty() {
            // Metrics are not worth an invocation.
            let _ = std::io::stdout().lock().write_all(lines.as_bytes());
        }
    }
}

fn line(dimension: &str, of: &str, mut values: Map<String, Value>, unit: &str, now: Timestamp) -> String {
    let metrics: Vec<_> = values.keys().map(|name| json!({"Name": name, "Unit": unit})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [[dimension]], "Metrics": metrics});
    values.insert(dimension.to_owned(), of.into());
    values.insert("_aws".to_owned(), json!({"Timestamp": now.0, "CloudWatchMetrics": [directive]}));
    Value::Object(values).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_rose_is_told_once() {
        let (cart, stock) = (TypeName::from_static("shop/cart"), TypeName::from_static("shop/stock"));
        let metrics = Metrics::new([cart.clone(), stock]);
        let emf = Emf::default();
        assert_eq!(emf.lines(&metrics, Timestamp(5)), "");
        metrics.of(&cart).messages.fetch_add(2, Ordering::Relaxed);
        let expected = json!({
            "_aws": {"Timestamp": 5, "CloudWatchMetrics": [{
                "Namespace": "StateFun", "Dimensions": [["function"]],
                "Metrics": [{"Name": "statefun_messages_in_total", "Unit": "Count"}],
            }]},
            "function": "shop/cart",
            "statefun_messages_in_total": 2,
        });
        assert_eq!(serde_json::from_str::<Value>(&emf.lines(&metrics, Timestamp(5))).unwrap(), expected);
        assert_eq!(emf.lines(&metrics, Timestamp(6)), "");
        metrics.of(&cart).messages.fetch_add(1, Ordering::Relaxed);
        assert!(emf.lines(&metrics, Timestamp(7)).contains("\"statefun_messages_in_total\":1"));
    }

    /// A clock that is set by hand.
    struct Hand(Mutex<u64>);

    #[async_trait::async_trait]
    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(*self.0.lock().unwrap() * 1_000)
        }

        fn moment(&self) -> Moment {
            Moment::after_start(Duration::from_secs(*self.0.lock().unwrap()))
        }

        async fn sleep_until(&self, _: Moment) {}
    }

    #[test]
    fn counters_are_written_once_a_minute() {
        let cart = TypeName::from_static("shop/cart");
        let (metrics, clock) = (Metrics::new([cart.clone()]), Hand(Mutex::new(100)));
        let emf = Emf::new(None, clock.moment());
        let written = |second| {
            *clock.0.lock().unwrap() = second;
            metrics.of(&cart).messages.fetch_add(1, Ordering::Relaxed);
            emf.emit_now_and_then(&metrics, &clock);
            std::mem::take(&mut *emf.written.lock().unwrap())
        };
        assert_eq!(written(100), "");
        assert_eq!(written(159), "");
        assert!(written(160).contains("\"statefun_messages_in_total\":3"));
        assert_eq!(written(219), "");
        assert!(written(400).contains("\"statefun_messages_in_total\":2"));
    }

    #[test]
    fn the_oldest_message_that_comes_again_is_told() {
        let emf = Emf::new(Some("stack-Greeter-1".to_owned()), Moment::default());
        let line = |sent: &[u64]| emf.failing_line(sent.iter().copied().map(Timestamp), Timestamp(400_999));
        let expected = json!({
            "_aws": {"Timestamp": 400_999, "CloudWatchMetrics": [{
                "Namespace": "StateFun", "Dimensions": [["lambda"]],
                "Metrics": [{"Name": "statefun_failing_age_seconds", "Unit": "Seconds"}],
            }]},
            "lambda": "stack-Greeter-1",
            "statefun_failing_age_seconds": 400,
        });
        assert_eq!(serde_json::from_str::<Value>(&line(&[300_000, 500, 900_000])).unwrap(), expected);
        assert_eq!(line(&[]), "", "nothing failed");
        assert_eq!(Emf::new(None, Moment::default()).failing_line([Timestamp(1)], Timestamp(2)), "", "not on Lambda");
    }

    #[test]
    fn overdue_outboxes_are_told_where_there_are_some() {
        let emf = Emf::new(Some("stack-Router-1".to_owned()), Moment::default());
        assert_eq!(emf.overdue_line(0, Timestamp(1)), "");
        assert!(emf.overdue_line(2, Timestamp(1)).contains("\"statefun_overdue_outboxes\":2"));
    }

    /// An alarm on a metric that nobody writes would never ring.
    #[test]
    fn the_template_watches_what_is_told() {
        let template = include_str!("../../../template.yaml");
        for metric in [FAILING_AGE, OVERDUE] {
            let watched = format!("Namespace: {NAMESPACE}, MetricName: {metric}, Dimensions: [{{Name: lambda,");
            assert!(template.contains(&watched), "no alarm of template.yaml says `{watched}`");
        }
    }
}
