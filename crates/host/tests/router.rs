//! A router in Rust on this machine: each row is a record, routed as the router Lambda of the application would route it.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::sync::Arc;

use common::*;
use statefun_core::{TypeName, TypedValue};
use statefun_host::{FileIngress, Mapping};
use statefun_ingress::{IngressRecord, Origin, RouteError, Routed, Router};

/// By the row's own key, if it has one: as from a producer that sends again what it did not hear of.
struct ByKind;

impl Router for ByKind {
    fn route(&self, record: &IngressRecord) -> Result<Vec<Routed>, RouteError> {
        #[derive(serde::Deserialize)]
        struct Row {
            who: String,
            n: i64,
        }
        let Row { who, n } = record.json()?;
        assert_ne!(who, "panic");
        assert!(matches!(record.origin, Origin::Row { line } if line > 1));
        let function = if who == "nobody" { "test/nobody" } else { "test/silent" };
        let value = match n {
            99 => TypedValue::absent(TypeName::from_static("test/unknown")),
            n => TypedValue::of(&order(&who, n)).unwrap(),
        };
        let to = |id: &str| Ok(Routed { to: address(&format!("{function}/{id}")), value: value.clone() });
        (0..n.min(2)).map(|_| to(&who)).chain([to("all")]).collect()
    }

    fn deduplication_key(&self, record: &IngressRecord) -> Result<Option<String>, RouteError> {
        Ok(record.pointer("/key")?.as_str().map(str::to_owned))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_go_where_the_router_says_once_and_what_it_refuses_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    let rows = "who,n,key\na,1,\nb,x,\nc,2,\npanic,3,\nnobody,4,\nd,99,\ne,1,k7\ne,1,k7\ne,1,k8\n";
    std::fs::write(&path, rows).unwrap();
    let run = async || {
        let host = open(&folder.path().join("data"));
        host.start();
        let report = host.run_file(FileIngress::path(&path, Mapping::router(Arc::new(ByKind)))).await.unwrap();
        host.idle().await.unwrap();
        (host, report)
    };
    let (host, report) = run().await;
    assert_eq!((report.rows, report.rejected), (9, 4));
    let mut reasons: Vec<_> = malformed(&host).into_iter().map(|record| (record.position, record.reason)).collect();
    reasons.sort();
    assert!(
        reasons[0].0 == "line 3" && reasons[0].1.starts_with("the record cannot be read as JSON: invalid type"),
        "{reasons:?}"
    );
    assert_eq!((reasons[1].0.as_str(), reasons[1].1.as_str()), ("line 5", "the router panicked"));
    assert_eq!(reasons[2].1, "no function `test/nobody` is known here");
    assert!(reasons[3].1.contains("does not take `test/unknown`"), "{reasons:?}");
    let counts = |host: &_| ["a", "b", "c", "d", "e", "all"].map(|id| seen(host, &format!("test/silent/{id}")));
    assert_eq!(counts(&host), [1, 0, 2, 0, 2, 4], "a producer's key counts once");
    host.shutdown().await.unwrap();
    let (host, report) = run().await;
    assert_eq!((report.rows, counts(&host)), (0, [1, 0, 2, 0, 2, 4]), "and a file once");
    host.shutdown().await.unwrap();
}
