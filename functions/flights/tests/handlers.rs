//! The week of departures through the handlers alone: instances in the test, and one queue between them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
};

use flights::{
    AIRCRAFT, AIRCRAFT_FUNCTION, AIRPORT, AIRPORT_FUNCTION, ALERTS, ROUTE, ROUTE_FUNCTION, Report, aircraft, airport, read_row,
    route,
};
use lambda_statefun::{Address, TestContext, ToAddress, TypedValue};

/// Instances, and messages on their way to them.
#[derive(Default)]
struct World {
    instances: HashMap<Address, TestContext>,
    queue: VecDeque<(Address, TypedValue)>,
    alerts: u64,
}

impl World {
    async fn run(&mut self) {
        while let Some((to, value)) = self.queue.pop_front() {
            let instance = self.instances.entry(to).or_insert_with_key(instance);
            let effects = instance.invoke_value(value).await.unwrap();
            self.queue.extend(effects.sent);
            assert!(effects.egress.iter().all(|(egress, _)| egress.as_str() == ALERTS));
            self.alerts += effects.egress.len() as u64;
        }
    }

    fn report(&self) -> Report {
        let mut report = Report { alerts: self.alerts, ..Report::default() };
        for (address, instance) in &self.instances {
            let id = address.id().to_owned();
            match address.function().as_str() {
                AIRCRAFT_FUNCTION => drop(report.aircraft.insert(id, instance.get(&AIRCRAFT).unwrap())),
                AIRPORT_FUNCTION => drop(report.airports.insert(id, instance.get(&AIRPORT).unwrap().into())),
                _ => drop(report.routes.insert(id, instance.get(&ROUTE).unwrap().into())),
            }
        }
        report
    }
}

fn instance(address: &Address) -> TestContext {
    let function = match address.function().as_str() {
        AIRCRAFT_FUNCTION => aircraft(),
        AIRPORT_FUNCTION => airport(),
        ROUTE_FUNCTION => route(),
        other => panic!("there is no `{other}`"),
    };
    TestContext::new(function, address.id())
}

#[tokio::test]
async fn every_number_of_the_week_agrees_with_the_reference() {
    let csv = std::fs::read_to_string(common::week()).unwrap();
    let mut lines = csv.lines();
    let header: Vec<_> = lines.next().unwrap().split(',').collect();
    let mut world = World::default();
    for line in lines {
        let fields: HashMap<_, _> = header.iter().copied().zip(line.split(',')).collect();
        let row = read_row(|column| fields.get(column).map(|text| Cow::Borrowed(*text))).unwrap();
        world.queue.push_back((row.address().to_address().unwrap(), TypedValue::of(&row.flight).unwrap()));
        world.run().await;
    }
    let expected = common::reference::report(&csv);
    let found = serde_json::to_value(world.report()).unwrap();
    for part in ["aircraft", "airports", "routes", "alerts"] {
        assert_eq!(found[part], expected[part], "{part}");
    }
    assert_eq!(found, expected);
}
