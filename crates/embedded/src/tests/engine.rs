//! The engine over this store: who runs beside whom, and keys that are used again.

use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use statefun_engine::{Config, Engine, Functions, Invoke, Outcome, Ports, ports::InstanceStore};
use tokio::sync::{Barrier, Semaphore};

use super::*;

const PATIENT: TypeName = TypeName::from_static("example/greeter");
const IMPATIENT: TypeName = TypeName::from_static("example/impatient");

/// What a handler does beside counting its calls.
enum Then {
    Nothing,
    /// Waits until so many are there.
    Meets(Barrier),
    /// Waits to be let go.
    Waits(Semaphore),
}

struct Handler {
    calls: AtomicU64,
    then: Then,
}

#[async_trait]
impl Invoke for Handler {
    async fn invoke(&self, _: &mut Context, _: &TypedValue) -> Result<(), FunctionError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match &self.then {
            Then::Nothing => {}
            Then::Meets(barrier) => _ = barrier.wait().await,
            Then::Waits(go) => drop(go.acquire().await),
        }
        Ok(())
    }
}

/// An engine with a patient function and one that gives up after its first try.
struct World {
    engine: Engine,
    store: Embedded,
    handler: Arc<Handler>,
    hand: Hand,
    _fixture: Fixture,
}

/// An envelope of one message.
fn one(to: &Address, number: u32) -> Envelope {
    let envelope = envelope(to, number);
    Envelope { messages: envelope.messages[..1].to_vec(), ..envelope }
}

impl World {
    fn new(then: Then) -> Self {
        let fixture = Fixture::new();
        let store = fixture.open();
        let handler = Arc::new(Handler { calls: AtomicU64::new(0), then });
        let mut functions = Functions::default();
        for (name, max_attempts) in [(PATIENT, 5), (IMPATIENT, 1)] {
            let on_failure = OnFailure::DeadLetter { max_attempts };
            functions.add(FunctionSpec { on_failure, ..FunctionSpec::new(name) }, handler.clone());
        }
        let port = Arc::new(store.clone());
        let ports = Ports {
            store: port.clone(),
            queue: port.clone(),
            timers: port.clone(),
            egress: port.clone(),
            dead_letters: port,
            clock: Arc::new(fixture.hand.clone()),
        };
        let config = Config { reserve: Duration::ZERO, ..Config::default() };
        let (engine, hand) = (Engine::new(functions, ports, config), fixture.hand.clone());
        Self { engine, store, handler, hand, _fixture: fixture }
    }

    fn deadline(&self) -> Moment {
        self.hand.moment().plus(Duration::from_secs(60))
    }

    /// Takes the next lane and runs what waits there; says whether all of it is done.
    async fn run_next(&self, permit: statefun_engine::Permit) -> bool {
        let address = self.store.ready().await.unwrap();
        let received = self.store.receive(&address, 256, usize::MAX).unwrap();
        let outcomes = self.engine.run(&address, received.as_slice().into(), self.deadline(), permit).await;
        let done: Vec<_> = received.iter().map(|delivered| delivered.seq.seq).collect();
        self.store.settle(&address, &done, None).unwrap();
        outcomes.iter().all(|outcome| *outcome == Outcome::Done)
    }

    /// An address whose next envelope has this number, and is suspected: its last run was noted, and its process did not live to clear
    /// the note.
    async fn suspect(&self, number: u32) -> Address {
        let suspect = address("suspect");
        let mut noted = commit(&suspect, &Record::new(self.hand.now()), Vec::new());
        noted.record.trials = vec![Trial { id: one(&suspect, number).id, failures: 0, note: Note::Watched }];
        self.store.commit(&noted).await.unwrap();
        suspect
    }

    fn calls(&self) -> u64 {
        self.handler.calls.load(Ordering::SeqCst)
    }
}

/// A first delivery has killed nobody: however soon a function gives up, its messages and those of others run beside each other.
#[tokio::test]
async fn with_an_impatient_function_200_handlers_are_in_flight_together() {
    let world = World::new(Then::Meets(Barrier::new(200)));
    let to = |number: u32| match number % 2 {
        0 => address(number),
        _ => Address::new(IMPATIENT, number.to_string()).unwrap(),
    };
    world.store.ingest((0..200).map(|number| one(&to(number), number)).collect(), None, false).await.unwrap();
    let mut batch = Vec::new();
    while let Some(address) = world.store.try_ready().unwrap() {
        batch.extend(world.store.receive(&address, 256, usize::MAX).unwrap());
    }
    // Were one to wait for another, nobody would get through.
    let outcomes = world.engine.run_batch(&batch, world.deadline()).await;
    assert_eq!((outcomes.len(), world.calls()), (200, 200));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done));
}

struct Permit(Arc<AtomicBool>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Whoever has to run alone waits for the others to end, and meanwhile its place is free for yet others.
#[tokio::test]
async fn whoever_waits_to_run_alone_gives_its_permit_back() {
    let world = World::new(Then::Waits(Semaphore::new(0)));
    let suspect = world.suspect(2).await;
    world.store.ingest(vec![one(&address("other"), 1), one(&suspect, 2)], None, false).await.unwrap();
    let free = Arc::new(AtomicBool::new(false));
    let Then::Waits(go) = &world.handler.then else { unreachable!() };
    let controls = async {
        while !free.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.calls(), 1, "it runs while another one does");
        go.close();
    };
    let (other, suspected, ()) =
        tokio::join!(world.run_next(None), world.run_next(Some(Box::new(Permit(free.clone())))), controls);
    assert!(other && suspected);
    assert_eq!((world.calls(), world.store.letter_count()), (2, 0));
    assert!(world.store.record(&suspect).unwrap().unwrap().trials.is_empty());
}

/// A host that stops gives handlers up. Its process did not die of them: no failure may be counted. But the envelope may be the one that killed
/// the process before, so its next run must not put others at risk either.
#[tokio::test]
async fn a_run_alone_that_is_cut_short_is_not_blamed_and_stays_suspected() {
    let world = World::new(Then::Waits(Semaphore::new(0)));
    let suspect = world.suspect(2).await;
    world.store.ingest(vec![one(&suspect, 2)], None, false).await.unwrap();
    let stops = async {
        while world.calls() == 0 {
            tokio::task::yield_now().await;
        }
        let noted = world.store.record(&suspect).unwrap().unwrap();
        assert_eq!(noted.trials[0].note, Note::Alone);
        world.engine.cut_short();
    };
    let (done, ()) = tokio::join!(world.run_next(None), stops);
    assert!(!done, "nothing of it is committed");
    let left = world.store.record(&suspect).unwrap().unwrap();
    let kept = Trial { id: one(&suspect, 2).id, failures: 0, note: Note::Watched };
    assert_eq!(left.trials, [kept]);
}

/// A key means a new message once its time is over, whether the instance was quiet since or not.
#[tokio::test]
async fn a_key_used_again_after_the_horizon_takes_effect() {
    let world = World::new(Then::Nothing);
    let to = address("keys");
    let mut number = 10;
    for weeks in [0, 3, 3] {
        let before = world.calls();
        for expected in [true, false] {
            let ingested = world.store.ingest(vec![one(&to, 1)], None, true).await.unwrap();
            assert_eq!(ingested.accepted, [expected], "used again within its time");
        }
        assert!(world.run_next(None).await);
        assert_eq!(world.calls(), before + 1);
        // One message a week, or none at all.
        for _ in 0..weeks {
            world.hand.advance(Duration::from_secs(7 * 86_400));
            world.store.ingest(vec![one(&to, number)], None, false).await.unwrap();
            assert!(world.run_next(None).await);
            number += 1;
        }
        world.hand.advance(Duration::from_secs(22 * 86_400));
        world.store.sweep(world.hand.now(), 1_000).unwrap();
    }
}
