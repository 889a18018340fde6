//! All numbers, from what the instances keep.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use lambda_statefun::local::{Host, HostError};
use lambda_statefun::{TypeName, Value, ValueSpec};

use super::JobError;
use crate::{AIRCRAFT, AIRCRAFT_FUNCTION, AIRPORT, AIRPORT_FUNCTION, ALERTS, ROUTE, ROUTE_FUNCTION, Report};

/// Where the host writes the alerts, one a line.
#[must_use]
pub fn alerts_file(data: &Path) -> PathBuf {
    data.join("egress").join(format!("{ALERTS}.jsonl"))
}

/// Reads the numbers of all instances, and counts alerts and dead letters.
///
/// # Errors
/// If something cannot be read.
pub fn report(host: &Host) -> Result<Report, JobError> {
    let mut report = Report { dead_letters: host.store().letter_count(), ..Report::default() };
    let alerts = alerts_file(host.data());
    report.alerts = lines(&alerts).map_err(|source| JobError::Alerts { path: alerts, source })?;
    each(host, AIRCRAFT_FUNCTION, &AIRCRAFT, |id, numbers| {
        report.aircraft.insert(id, numbers);
    })?;
    each(host, AIRPORT_FUNCTION, &AIRPORT, |id, numbers| {
        report.airports.insert(id, numbers.into());
    })?;
    each(host, ROUTE_FUNCTION, &ROUTE, |id, numbers| {
        report.routes.insert(id, numbers.into());
    })?;
    Ok(report)
}

/// The state value of every instance of a function that has it.
fn each<T: Value>(
    host: &Host,
    function: &'static str,
    spec: &ValueSpec<T>,
    mut take: impl FnMut(String, T),
) -> Result<(), JobError> {
    for instance in host.store().instances(&TypeName::from_static(function), None) {
        let (address, record) = instance.map_err(HostError::from)?;
        let value = record.state.get(spec.name()).map(|stored| stored.value.get::<T>()).transpose();
        let value = value.map_err(|source| JobError::State { address: address.to_string(), source })?;
        if let Some(value) = value.flatten() {
            take(address.id().to_owned(), value);
        }
    }
    Ok(())
}

fn lines(path: &Path) -> io::Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    for line in BufReader::new(file).split(b'\n') {
        count += u64::from(!line?.is_empty());
    }
    Ok(count)
}
