//! The engine's counters as CloudWatch metrics: lines in the embedded metric format on the standard output, from which
//! CloudWatch Logs makes metrics without a call. Namespace `StateFun`, dimension `function`; each value is the increase since
//! the line before.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Mutex, PoisonError},
};

use serde_json::{Map, Value, json};
use statefun_core::{Timestamp, TypeName};
use statefun_engine::metrics::Metrics;

/// The metrics' namespace.
const NAMESPACE: &str = "StateFun";

/// Knows what was told already.
#[derive(Debug, Default)]
pub(crate) struct Emf(Mutex<BTreeMap<TypeName, Vec<u64>>>);

impl Emf {
    /// Writes what rose since the last time, one line per function.
    pub(crate) fn emit(&self, metrics: &Metrics, now: Timestamp) {
        let lines = self.lines(metrics, now);
        if !lines.is_empty() {
            // Metrics are not worth an invocation.
            let _ = std::io::stdout().lock().write_all(lines.as_bytes());
        }
    }

    fn lines(&self, metrics: &Metrics, now: Timestamp) -> String {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
                lines.push_str(&line(function, rises, now));
                lines.push('\n');
            }
        }
        lines
    }
}

fn line(function: &TypeName, mut rises: Map<String, Value>, now: Timestamp) -> String {
    let metrics: Vec<_> = rises.keys().map(|name| json!({"Name": name, "Unit": "Count"})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": metrics});
    rises.insert("function".to_owned(), function.as_str().into());
    rises.insert("_aws".to_owned(), json!({"Timestamp": now.0, "CloudWatchMetrics": [directive]}));
    Value::Object(rises).to_string()
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
}
