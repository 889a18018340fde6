//! What the data folder holds and the application no longer covers: counted in the background after the start, and reported once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use statefun_core::{Record, TypeName};
use statefun_engine::ports::PortError;

use crate::{error::chain, host::Inner};

/// Instances looked at, at most: some seconds' work, beside what the host does.
const MOST: usize = 1_000_000;
/// Instances between two breaths.
const AT_ONCE: usize = 256;
const BREATH: Duration = Duration::from_millis(1);
/// Lines of a report; what is beyond them is counted.
const LINES: usize = 20;

/// One kind of thing that nothing covers.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Uncovered {
    /// A function that the application lacks.
    Function(TypeName),
    /// A state that its function does not declare.
    State { function: TypeName, state: Arc<str>, stored: TypeName },
    /// A state that its function declares with a type that does not read the stored one.
    Type { function: TypeName, state: Arc<str>, stored: TypeName, wanted: TypeName },
}

#[derive(Debug, Default)]
struct Survey {
    instances: usize,
    /// By kind, of how many instances.
    uncovered: BTreeMap<Uncovered, u64>,
}

/// Looks through the folder, unless the host stops meanwhile, and says what it found.
pub(crate) async fn run(inner: Arc<Inner>) {
    match survey(&inner).await {
        Ok(Some(survey)) => survey.report(),
        Ok(None) => {}
        Err(error) => tracing::debug!(error = chain(&error), "the state in the data folder was not looked through"),
    }
}

async fn survey(inner: &Inner) -> Result<Option<Survey>, PortError> {
    let mut survey = Survey::default();
    for function in inner.store.functions()? {
        for instance in inner.store.instances(&function, None) {
            if survey.instances == MOST {
                return Ok(Some(survey));
            }
            match instance {
                Ok((_, record)) => survey.add(inner, &function, &record),
                // One that is damaged says nothing of the others.
                Err(error) => {
                    tracing::debug!(%function, error = chain(&error), "an instance was not looked at");
                    survey.instances += 1;
                }
            }
            if survey.instances.is_multiple_of(AT_ONCE) {
                tokio::time::sleep(BREATH).await;
            }
            if inner.is_stopping() {
                return Ok(None);
            }
        }
    }
    Ok(Some(survey))
}

impl Survey {
    fn add(&mut self, inner: &Inner, function: &TypeName, record: &Record) {
        self.instances += 1;
        let mut count = |kind| *self.uncovered.entry(kind).or_default() += 1;
        let Some(known) = inner.engine.functions().get(function) else {
            return count(Uncovered::Function(function.clone()));
        };
        for (name, value) in &record.state {
            let (function, state, stored) = (function.clone(), name.clone(), value.value.type_name.clone());
            match known.spec.states.get(&**name) {
                None => count(Uncovered::State { function, state, stored }),
                Some(spec) if !spec.knows(&stored) => {
                    count(Uncovered::Type { function, state, stored, wanted: spec.type_name.clone() });
                }
                Some(_) => {}
            }
        }
    }

    fn report(&self) {
        for (kind, instances) in self.uncovered.iter().take(LINES) {
            match kind {
                Uncovered::Function(function) => {
                    tracing::warn!(%function, instances, "the data folder has instances of a function that this application lacks; they are kept");
                }
                Uncovered::State { function, state, stored } => {
                    tracing::warn!(%function, %state, %stored, instances, "stored state is not declared by its function any more; it is kept");
                }
                Uncovered::Type { function, state, stored, wanted } => tracing::warn!(
                    %function, %state, %stored, %wanted, instances,
                    "stored state is of a type that its function does not read; its instances will wait: see docs/evolution.md"
                ),
            }
        }
        let more = self.uncovered.len().saturating_sub(LINES);
        if more > 0 {
            tracing::warn!(more, "more kinds of stored state are not covered by this application");
        }
        let (instances, all) = (self.instances, self.instances < MOST);
        tracing::debug!(instances, all, "the state in the data folder was looked through");
    }
}
