//! Programs change, and what is stored stays: state that a version cannot read is waited for, and what nothing covers any more is said.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use common::*;
use serde::{Deserialize, Serialize};
use statefun_core::{
    Accepted, Address, Context, FunctionError, Json, OnFailure, StateSpec, TypeName, TypedValue, Value, ValueSpec,
};
use statefun_engine::Functions;
use statefun_host::Host;

const CARTS: &str = "test/carts";

/// As it was first.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    items: u64,
}

/// With a field that has no default: what `Cart` stored cannot be read.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct OwnedCart {
    items: u64,
    owner: String,
}

impl Value for Cart {
    const TYPE_NAME: TypeName = TypeName::from_static("test/cart");
    type Codec = Json;
}

impl Value for OwnedCart {
    const TYPE_NAME: TypeName = TypeName::from_static("test/cart");
    type Codec = Json;
}

impl From<Cart> for OwnedCart {
    fn from(Cart { items }: Cart) -> Self {
        Self { items, owner: "nobody".to_owned() }
    }
}

impl AsMut<u64> for Cart {
    fn as_mut(&mut self) -> &mut u64 {
        &mut self.items
    }
}

impl AsMut<u64> for OwnedCart {
    fn as_mut(&mut self) -> &mut u64 {
        &mut self.items
    }
}

const CART: ValueSpec<Cart> = ValueSpec::new("cart");
const OWNED: ValueSpec<OwnedCart> = ValueSpec::new("cart");
const MIGRATED: ValueSpec<OwnedCart> = ValueSpec::new("cart").reads::<Cart>();

/// Counts items in a cart of this type; `lossy` ones do not say what kind of error it was that kept them from it.
fn carts<T: Value + Default + AsMut<u64> + 'static>(cart: &'static ValueSpec<T>, lossy: bool) -> Functions {
    let add = Sync(move |context: &mut Context, _: &TypedValue| {
        let found = context.get(cart);
        let found = if lossy { found.map_err(|_| FunctionError::terminal("no cart"))? } else { found? };
        let mut items = found.unwrap_or_default();
        *items.as_mut() += 1;
        Ok(context.set(cart, items)?)
    });
    let mut spec = spec(CARTS, vec![Accepted::of::<String>()]);
    spec.states = [(cart.name(), StateSpec::from(cart))].into();
    spec.on_failure = OnFailure::DeadLetter { max_attempts: 2 };
    let mut functions = Functions::default();
    functions.add(spec, Arc::new(add));
    functions
}

/// What all hosts of this program logged.
fn logged() -> String {
    String::from_utf8(log().lock().unwrap().clone()).unwrap()
}

fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        struct Into;
        impl Write for Into {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                log().lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        tracing_subscriber::fmt().with_ansi(false).with_writer(|| Into).init();
        Mutex::default()
    })
}

fn start(data: &Path, functions: Functions) -> Host {
    log();
    let host = open_with(functions, options(data));
    host.start();
    host
}

fn at(id: &str) -> Address {
    Address::parse(&format!("{CARTS}/{id}")).unwrap()
}

fn items<T: Value>(host: &Host, id: &str) -> Option<T> {
    host.store().record(&at(id)).unwrap()?.state.get("cart")?.value.get().unwrap()
}

fn unreadable(host: &Host) -> u64 {
    host.metrics().total(|counters| &counters.unreadable)
}

async fn until(what: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_for_a_version_that_reads_the_state_and_none_is_given_up() {
    for lossy in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let host = start(data.path(), carts(&CART, lossy));
        let to = serve(&host).await;
        post(to, &format!("/{CARTS}/a"), "text/plain", "x").await;
        host.idle().await.unwrap();
        host.shutdown().await.unwrap();

        let host = start(data.path(), carts(&OWNED, lossy));
        let to = serve(&host).await;
        for id in ["a", "a", "b"] {
            assert_eq!(post(to, &format!("/{CARTS}/{id}"), "text/plain", "x").await.status, 202);
        }
        // More often than a message may be tried.
        until(|| unreadable(&host) >= 4 && items::<OwnedCart>(&host, "b").is_some()).await;
        let metrics = request(to, "GET", "/_/metrics", &[], b"").await.body;
        assert!(metrics.contains("statefun_unreadable_state_total{function=\"test/carts\"} "), "{metrics}");
        assert_eq!((host.store().letter_count(), host.store().waiting().messages), (0, 2), "other instances go on");
        let line = "function=test/carts state=\"cart\" stored=test/cart wanted=test/cart";
        assert!(logged().contains(line), "{}", logged());
        host.shutdown().await.unwrap();

        let host = start(data.path(), carts(&CART, lossy));
        host.idle().await.unwrap();
        assert_eq!((items(&host, "a"), host.store().letter_count()), (Some(Cart { items: 3 }), 0), "the version before reads it");
        host.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_an_older_form_is_read_by_a_reader_for_it_and_stored_in_the_new_one() {
    let data = tempfile::tempdir().unwrap();
    for functions in [carts(&CART, false), carts(&OWNED, false), carts(&MIGRATED, false)] {
        let host = start(data.path(), functions);
        let to = serve(&host).await;
        post(to, &format!("/{CARTS}/a"), "text/plain", "x").await;
        until(|| host.store().waiting().messages == 0 || unreadable(&host) > 0).await;
        host.shutdown().await.unwrap();
    }
    let host = start(data.path(), carts(&OWNED, false));
    host.idle().await.unwrap();
    assert_eq!(items(&host, "a"), Some(OwnedCart { items: 3, owner: "nobody".to_owned() }));
    host.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_application_no_longer_covers_is_said_once_after_the_start() {
    let data = tempfile::tempdir().unwrap();
    let host = start(data.path(), carts(&CART, false));
    let to = serve(&host).await;
    for id in ["a", "b", "c"] {
        post(to, &format!("/{CARTS}/{id}"), "text/plain", "x").await;
    }
    host.idle().await.unwrap();
    host.shutdown().await.unwrap();
    const SOLD: ValueSpec<u64> = ValueSpec::new("cart");
    const SALES: ValueSpec<u64> = ValueSpec::new("sales");
    let with = |name: &str, state: StateSpec| {
        let mut functions = Functions::default();
        let mut spec = spec(name, vec![Accepted::of::<String>()]);
        spec.states = [(state.name, state)].into();
        functions.add(spec, Arc::new(Sync(|_: &mut Context, _: &TypedValue| Ok(()))));
        functions
    };
    for (functions, said) in [
        (
            with("test/other", StateSpec::from(&SOLD)),
            "that this application lacks; they are kept function=test/carts instances=3",
        ),
        (with(CARTS, StateSpec::from(&SALES)), "it is kept function=test/carts state=cart stored=test/cart instances=3"),
        (
            with(CARTS, StateSpec::from(&SOLD)),
            "docs/evolution.md function=test/carts state=cart stored=test/cart wanted=io.statefun.types/long instances=3",
        ),
    ] {
        let host = start(data.path(), functions);
        until(|| logged().contains(said)).await;
        assert_eq!(logged().matches(said).count(), 1);
        host.shutdown().await.unwrap();
    }
}
