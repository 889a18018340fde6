//! Values on their way into the state and into people's eyes: none changes.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{net::SocketAddr, sync::Arc};

use common::*;
use serde::{Deserialize, Serialize};
use statefun_core::{Accepted, Context, FunctionError, FunctionSpec, Json, TypeName, TypedValue, Value, ValueSpec};
use statefun_engine::Functions;
use statefun_host::Host;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    count: u32,
    means: std::collections::BTreeMap<String, Option<f64>>,
    big: u128,
    small: f32,
}

impl Value for Sums {
    const TYPE_NAME: TypeName = TypeName::from_static("test/sums");
    type Codec = Json;
}

const SUMS: ValueSpec<Sums> = ValueSpec::new("sums");
const TENTH: ValueSpec<f32> = ValueSpec::new("tenth");
const NAN: ValueSpec<f64> = ValueSpec::new("nan");

/// Counts, and divides by its message.
fn divide(context: &mut Context, message: &TypedValue) -> Result<(), FunctionError> {
    let by: f64 = message.get::<String>()?.unwrap_or_default().parse()?;
    let mut sums = context.get(&SUMS)?.unwrap_or_default();
    sums.count += 1;
    (sums.big, sums.small) = (12_345_678_901_234_567_890_123, 0.1);
    sums.means.insert("all of them".to_owned(), Some((f64::from(sums.count) - f64::from(sums.count)) / by));
    context.set(&TENTH, 0.1)?;
    context.set(&NAN, f64::NAN)?;
    Ok(context.set(&SUMS, sums)?)
}

async fn started() -> (tempfile::TempDir, Host, SocketAddr) {
    let data = tempfile::tempdir().unwrap();
    let mut functions = Functions::default();
    let states = [(SUMS.name(), SUMS.erase()), (TENTH.name(), TENTH.erase()), (NAN.name(), NAN.erase())].into();
    let spec = FunctionSpec { states, ..spec("test/divide", vec![Accepted::of::<String>()]) };
    functions.add(spec, Arc::new(Sync(divide)));
    let host = open_with(functions, options(data.path()));
    host.start();
    let to = serve(&host).await;
    (data, host, to)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_could_not_be_read_again_is_never_stored() {
    let (_data, host, to) = started().await;
    for by in ["1", "0", "2"] {
        assert_eq!(post(to, "/test/divide/a", "text/plain", by).await.status, 202);
    }
    host.idle().await.unwrap();
    let letters = request(to, "GET", "/_/dead-letters", &[], b"").await.json();
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 1, "{letters}");
    let error = letters["dead_letters"][0]["error"].as_str().unwrap();
    assert_eq!(error, "a value of `test/sums` cannot be written: `means[\"all of them\"]`: JSON has no number NaN");
    let state = request(to, "GET", "/_/state/test/divide/a", &[], b"").await.json();
    assert_eq!(state["state"]["sums"]["value"]["count"], 2, "the messages before and behind it took effect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_shown_with_all_their_digits() {
    let (_data, host, to) = started().await;
    post(to, "/test/divide/a", "text/plain", "1").await;
    host.idle().await.unwrap();
    let body = request(to, "GET", "/_/state/test/divide/a", &[], b"").await.body;
    for part in [
        r#""big":12345678901234567890123,"small":0.1}"#,
        r#""tenth":{"type":"io.statefun.types/float","value":0.1,"#,
        r#""nan":{"type":"io.statefun.types/double","value":"NaN","#,
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
}
