//! The functions of an application, as the engine calls them.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use statefun_core::{Context, FunctionError, FunctionSpec, TypeName, TypedValue};

/// A handler without its types: what the SDK makes of an author's function.
#[async_trait]
pub trait Invoke: Send + Sync {
    /// Handles one message on the context. Returns `Ok` if its effects are to be committed.
    async fn invoke(&self, context: &mut Context, message: &TypedValue) -> Result<(), FunctionError>;
}

/// A function: what it declares, and its handler.
#[derive(Clone)]
pub struct Registered {
    /// Name, state, policy.
    pub spec: Arc<FunctionSpec>,
    /// The handler.
    pub handler: Arc<dyn Invoke>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registered").field(&self.spec.name).finish()
    }
}

/// All functions of an application, by type.
#[derive(Debug, Clone, Default)]
pub struct Functions(HashMap<TypeName, Registered>);

impl Functions {
    /// Adds a function; `false`, and nothing added, if its name is taken.
    pub fn add(&mut self, spec: FunctionSpec, handler: Arc<dyn Invoke>) -> bool {
        let name = spec.name.clone();
        if self.0.contains_key(&name) {
            return false;
        }
        self.0.insert(name, Registered { spec: Arc::new(spec), handler });
        true
    }

    /// The function of this type.
    #[must_use]
    pub fn get(&self, name: &TypeName) -> Option<&Registered> {
        self.0.get(name)
    }

    /// The functions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Registered> {
        self.0.values()
    }
}
