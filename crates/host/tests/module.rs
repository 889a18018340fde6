//! Ingresses of a module, fed over HTTP and from files: what a stream or queue would cause, exactly once.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{ffi::OsString, net::SocketAddr, path::Path, sync::Arc};

use common::*;
use statefun_core::{Context, TypeName, TypedValue};
use statefun_host::{App, EgressRoutes, FileIngress, Host, HostError, HostOptions, Mapping, SinkSpec, module::Module, run_cli};

const MODULE: &str = r#"
kind: io.statefun.kinesis.v1/ingress
spec:
  id: test/orders
  streams:
    - {stream: "${ORDERS_STREAM}", valueType: test/order, targets: [test/counter, test/silent]}
    - {stream: by-id, valueType: test/order, targets: [test/silent], id: {jsonPointer: /id}}
---
kind: io.statefun.sqs.v1/ingress
spec:
  id: test/queue
  queues:
    - queue: orders.fifo
      valueType: {messageAttribute: Type}
      targets: [test/counter]
      id: messageGroupId
      deduplicationKey: messageDeduplicationId
---
kind: io.statefun.sqs.v1/ingress
spec:
  id: test/texts
  queues: [{queue: texts, valueType: text, targets: [test/counter], id: {messageAttribute: who}, deduplicationKey: {jsonPointer: /key}}]
---
kind: io.statefun.kinesis.v1/ingress
spec:
  id: other/application
  streams: [{stream: x, valueType: test/order, targets: [other/function]}]
---
kind: io.statefun.sqs.v1/egress
spec: {id: test/out, queue: "${OUT_QUEUE}"}
---
kind: io.statefun.sns.v1/egress
spec: {id: test/topic, topic: "${TOPIC}"}
"#;

fn with_module(data: &Path) -> HostOptions {
    let module = Module::parse("module.yaml", MODULE).unwrap().resolve_local(&|_| None).unwrap();
    HostOptions { module: Some(Arc::new(module)), ..options(data) }
}

async fn started(data: &Path) -> (Host, SocketAddr) {
    let host = open_with(functions(), with_module(data));
    host.start();
    let to = serve(&host).await;
    (host, to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_reach_every_target_and_count_once() {
    let data = tempfile::tempdir().unwrap();
    let (host, to) = started(data.path()).await;
    let feed = async |path: &str, headers: &[(&str, &str)], body: &str| request(to, "POST", path, headers, body.as_bytes()).await;

    let key = ("Statefun-Partition-Key", "Bob / ä");
    for _ in 0..2 {
        let reply = feed("/_/ingress/test/orders?source=ORDERS_STREAM", &[key], r#"{"id":"x"}"#).await;
        assert_eq!((reply.status, reply.json()["ids"].as_array().map(Vec::len)), (202, Some(2)), "{}", reply.body);
    }
    let again = [key, ("Idempotency-Key", "k1")];
    let first = feed("/_/ingress/test/orders?source=ORDERS_STREAM", &again, r#"{"id":"x"}"#).await.json();
    let second = feed("/_/ingress/test/orders?source=ORDERS_STREAM", &again, r#"{"id":"x"}"#).await.json();
    assert_eq!((&first["ids"], first["duplicate"].as_bool(), second["duplicate"].as_bool()), (&second["ids"], None, Some(true)));
    let by_id = feed("/_/ingress/test/orders?source=by-id", &again, r#"{"id":"Carl"}"#).await;
    assert_eq!((by_id.status, by_id.json()["duplicate"].as_bool()), (202, None), "keys are of one stream");

    let message = [
        ("statefun-message-group-id", "Ann"),
        ("statefun-message-deduplication-id", "d1"),
        ("statefun-attribute-TYPE", "test/order"),
    ];
    for duplicate in [None, Some(true)] {
        let reply = feed("/_/ingress/test/queue", &message, r#"{"id":"y"}"#).await;
        assert_eq!((reply.status, reply.json()["duplicate"].as_bool()), (202, duplicate), "{}", reply.body);
    }
    let other = [message[0], ("statefun-message-deduplication-id", "d2"), message[2]];
    assert_eq!(feed("/_/ingress/test/queue", &other, r#"{"id":"y"}"#).await.status, 202);
    for _ in 0..2 {
        let reply = feed("/_/ingress/test/texts", &[("statefun-attribute-who", "Dora")], r#"{"key":7}"#).await;
        assert_eq!(reply.status, 202, "{}", reply.body);
    }
    host.idle().await.unwrap();
    let counts = ["test/counter/Bob / ä", "test/silent/Bob / ä", "test/silent/Carl", "test/counter/Ann", "test/counter/Dora"];
    assert_eq!(counts.map(|of| seen(&host, of)), [3, 3, 1, 2, 1]);
    assert_eq!(host.store().letter_count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_malformed_is_kept_and_what_cannot_be_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let (host, to) = started(data.path()).await;
    let key = ("statefun-partition-key", "Bob");
    let group = ("statefun-message-group-id", "Ann");
    let cases: [Case<'_>; 10] = [
        ("POST", "/_/ingress/test/nobody", &[key], "", 404, "test/orders, test/queue"),
        ("POST", "/_/ingress/test/order", &[key], "", 404, "did you mean `test/orders`?"),
        ("POST", "/_/ingress/test/orders", &[key], "", 404, "ORDERS_STREAM, by-id"),
        ("POST", "/_/ingress/test/orders?source=x", &[key], "", 404, "reads no `x`"),
        ("POST", "/_/ingress/other/application", &[key], "{}", 404, "no function `other/function`"),
        ("POST", "/_/ingress/test/orders?source=by-id", &[], "{}", 400, "statefun-partition-key"),
        ("POST", "/_/ingress/test/queue", &[], "{}", 400, "statefun-message-group-id"),
        ("GET", "/_/ingress/test/queue", &[], "{}", 405, "POST /_/ingress"),
        ("POST", "/_/ingress/test/orders?source=by-id", &[key, ("Idempotency-Key", "")], "{}", 400, "Idempotency-Key"),
        ("POST", "/_/ingress/test/queue", &[group], &"x".repeat(800 * 1_024), 413, "object store"),
    ];
    for (method, path, headers, body, status, said) in cases {
        let reply = request(to, method, path, headers, body.as_bytes()).await;
        assert_eq!(reply.status, status, "{path} {}", reply.body);
        assert!(reply.body.contains(said), "{path}: {said} in {}", reply.body);
    }
    assert_eq!(host.store().letter_count(), 0);

    let order = ("statefun-attribute-type", "test/order");
    let cases: [(&str, Headers<'_>, &str, &str); 5] = [
        ("/_/ingress/test/orders?source=by-id", &[key], "{", "the id: the record is not JSON"),
        ("/_/ingress/test/orders?source=ORDERS_STREAM", &[key], "{\"n\":1}", "missing field `id`"),
        ("/_/ingress/test/queue", &[group], "{}", "has no attribute `Type`"),
        ("/_/ingress/test/queue", &[group, order], "{\"id\":\"\"}", "has no deduplication id"),
        ("/_/ingress/test/queue", &[group, ("statefun-attribute-type", "test/other")], "{}", "has no deduplication id"),
    ];
    for (index, (path, headers, body, said)) in cases.into_iter().enumerate() {
        let reply = request(to, "POST", path, headers, body.as_bytes()).await;
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert!(reply.json()["error"].as_str().unwrap().contains(said), "{said} in {}", reply.body);
        assert!(reply.json()["hint"].as_str().unwrap().contains("/_/dead-letters"));
        assert_eq!(host.store().letter_count(), index as u64 + 1);
    }
    for _ in 0..2 {
        let headers = [group, ("Idempotency-Key", "same"), ("statefun-attribute-type", "test/other")];
        let reply = request(to, "POST", "/_/ingress/test/queue", &headers, b"[1]").await;
        assert!(reply.body.contains("does not take `test/other`"), "{}", reply.body);
    }
    let letters = malformed(&host);
    assert_eq!(letters.len(), 6, "the same record is the same letter");
    let last = letters.iter().find(|letter| letter.position == "same").unwrap();
    assert_eq!((last.source.as_str(), last.raw.as_str()), ("orders.fifo of test/queue", "[1]"));
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/Ann"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_module_there_is_no_ingress() {
    let data = tempfile::tempdir().unwrap();
    let host = open(data.path());
    let reply = post(serve(&host).await, "/_/ingress/test/orders", "application/json", "{}").await;
    assert!(reply.status == 404 && reply.body.contains("--module FILE"), "{}", reply.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_file_go_through_an_ingress_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = folder.path().join("rows.csv");
    // The third has the key of the first, the fourth no key, the fifth no attribute.
    std::fs::write(&path, "who,key\na,1\nb,2\nb,1\na,\n,3\na,4\n").unwrap();
    let ingress = || Mapping::ingress(TypeName::from_static("test/texts"), None, None);
    for rows in [6, 0] {
        let host = open_with(functions(), with_module(&data));
        host.start();
        let report = host.run_file(FileIngress::path(&path, ingress())).await.unwrap();
        assert_eq!(report.rows, rows);
        host.idle().await.unwrap();
        assert_eq!([seen(&host, "test/counter/a"), seen(&host, "test/counter/b")], [2, 2]);
        let mut reasons: Vec<_> = malformed(&host).into_iter().map(|letter| (letter.position, letter.reason)).collect();
        reasons.sort();
        let said: Vec<_> = reasons.iter().map(|(position, _)| position.as_str()).collect();
        assert_eq!(said, ["line 5", "line 6"], "{reasons:?}");
        crash(host);
    }
    // The same key at the same address, in another file: it was taken.
    let more = folder.path().join("more.jsonl");
    std::fs::write(&more, "{\"who\":\"a\",\"key\":1}\n{\"who\":\"a\",\"key\":\"new\"}\n").unwrap();
    let host = open_with(functions(), with_module(&data));
    host.start();
    host.run_file(FileIngress::path(&more, ingress())).await.unwrap();
    host.idle().await.unwrap();
    assert_eq!(seen(&host, "test/counter/a"), 3);
    let error = host.run_file(FileIngress::path(&more, Mapping::ingress(TypeName::from_static("test/text"), None, None))).await;
    assert!(error.unwrap_err().to_string().contains("did you mean `test/texts`?"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_text_is_kept_as_base64_and_a_cut_is_said() {
    let data = tempfile::tempdir().unwrap();
    let (host, to) = started(data.path()).await;
    let key = [("statefun-partition-key", "Bob")];
    for body in [&[b'a', 0xff][..], &[0xff; 100_000]] {
        assert_eq!(request(to, "POST", "/_/ingress/test/orders?source=by-id", &key, body).await.status, 400);
    }
    let mut letters = malformed(&host);
    letters.sort_by_key(|letter| letter.raw.len());
    assert_eq!(letters[0].raw, "base64:Yf8=");
    assert!(letters[1].raw.len() <= 64 * 1_024 && letters[1].reason.ends_with("; its first 49146 of 100000 bytes are kept"));
}

/// On AWS the same sends fail in the same way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn egresses_are_those_of_the_module_with_their_limits() {
    let data = tempfile::tempdir().unwrap();
    let mut functions = functions();
    // The message says where to send how many bytes.
    let handler = Sync(|context: &mut Context, message: &TypedValue| {
        let Order { id, n } = message.get::<Order>()?.unwrap();
        let value = TypedValue::present(TypeName::from_static("test/bytes"), vec![b'x'; n.unwrap() as usize]);
        let outcome = context.egress_value(id.as_str(), value).err();
        let said = outcome.map_or_else(|| "sent".to_owned(), |error| error.to_string());
        Ok(context.egress(OUT, &format!("{id} {n:?}: {said}"))?)
    });
    functions.add(spec("test/sender", vec![statefun_core::Accepted::of::<Order>()]), Arc::new(handler));
    let routed = (TypeName::from_static("test/extra"), SinkSpec::File(data.path().join("extra.jsonl")));
    let egress = EgressRoutes { named: [routed].into() };
    let host = open_with(functions, HostOptions { egress, ..with_module(data.path()) });
    host.start();
    let sns = 189 * 1_024;
    for (name, bytes) in [("test/topic", sns), ("test/topic", sns + 1), ("test/topics", 1), ("test/extra", sns + 1)] {
        host.send(("test/sender", "a"), &order(name, bytes)).await.unwrap();
    }
    host.idle().await.unwrap();
    let said = lines(&out_file(data.path()));
    let expected = ["sent", "at most 193536", "did you mean `test/topic`?", "sent"];
    assert!(said.len() == 4 && said.iter().zip(expected).all(|(said, part)| said.contains(part)), "{said:?}");
}

/// A request and its answer: method, path, headers, body, status, a part of the answer.
type Case<'a> = (&'a str, &'a str, Headers<'a>, &'a str, u16, &'a str);
type Headers<'a> = &'a [(&'a str, &'a str)];

async fn run(data: &Path, args: &str) -> Result<(), HostError> {
    let args = ["app", "--data", data.to_str().unwrap()].into_iter().chain(args.split_whitespace()).map(OsString::from);
    run_cli(App::new(functions()), args).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out.jsonl"));
    let [module, bad, input] = ["module.yaml", "bad.yaml", "rows.csv"].map(|name| folder.path().join(name));
    std::fs::write(&module, MODULE).unwrap();
    std::fs::write(&bad, MODULE.replace("streams:", "steams:")).unwrap();
    std::fs::write(&input, "id,n\na,1\nb,2\na,3\n").unwrap();
    let (module, input) = (format!("--module {}", module.display()), format!("--input {} --until-idle", input.display()));

    let said = async |args: String| run(&data, &args).await.unwrap_err().to_string();
    let error = said(format!("--module {} {input} --ingress test/orders --egress test/out", bad.display())).await;
    for part in ["bad.yaml:", "did you mean `streams`?", "steams:", "--egress `test/out`: write"] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert!(!error.contains("no ingress"), "{error}");
    for (args, part) in [
        (format!("{module} {input} --ingress test/orders"), "say which; there are ORDERS_STREAM, by-id"),
        (format!("{module} {input} --ingress test/ordres"), "did you mean `test/orders`?"),
        (format!("{module} {input} --ingress other/application"), "no function `other/function`"),
        (format!("{module} {input} --ingress test/texts --to test/counter"), "--to and --ingress exclude each other"),
        (format!("{module} {input} --source x --to test/counter --id id"), "--source needs --ingress"),
        (format!("{module} --ingress test/texts --until-idle"), "--ingress needs --input"),
        (format!("{module} {input} --ingress test/orders --source ORDERS_STREAM"), "give --id FIELD"),
        (format!("{module} {input} --ingress test/queue"), "give --id FIELD"),
        (format!("{input} --ingress test/texts"), "--module FILE"),
        ("--module nowhere.yaml".to_owned(), "--module nowhere.yaml: "),
    ] {
        let error = said(args.clone()).await;
        assert!(error.contains(part), "{args}: {part} in {error}");
    }
    assert!(!data.exists(), "nothing was started");
    run(&folder.path().join("other"), &format!("{module} --egress test/extra=stdout --until-idle")).await.unwrap();

    let fed =
        format!("{module} {input} --ingress test/orders --source ORDERS_STREAM --id id --egress test/out=file:{}", out.display());
    for _ in 0..2 {
        run(&data, &fed).await.unwrap();
        let mut lines = lines(&out);
        lines.sort();
        assert_eq!(lines, ["a 1", "a 2", "b 1"]);
    }
}
