//! What holds for a whole application.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{ContextError, nearest},
    limits::{COMMIT_SOFT_BYTES, COMMIT_SOFT_EFFECTS, DEFAULT_MAX_HOPS, MAX_ENVELOPE_MESSAGES, MAX_MESSAGE_BYTES},
    protocol::classify::Protocol,
    type_name::TypeName,
};

/// What holds for every turn of an application.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Times and shapes of the protocol.
    pub protocol: Protocol,
    /// Hops after which a loop is assumed.
    pub max_hops: u32,
    /// Where messages may go.
    pub targets: Targets,
    /// Where egress records may go.
    pub egresses: Egresses,
    /// When a commit or an envelope takes no more.
    pub budget: Budget,
}

/// When a commit or an envelope takes no more. Tests use small ones; the defaults are the [`limits`](crate::limits).
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Messages of one envelope.
    pub envelope_messages: usize,
    /// Bytes after which a commit takes no further message.
    pub commit_bytes: usize,
    /// Effects after which a commit takes no further message.
    pub commit_effects: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { envelope_messages: MAX_ENVELOPE_MESSAGES, commit_bytes: COMMIT_SOFT_BYTES, commit_effects: COMMIT_SOFT_EFFECTS }
    }
}

/// Which functions can be sent to.
#[derive(Debug, Clone)]
pub enum Targets {
    /// Any: others know whether it exists.
    Any,
    /// These.
    Known(BTreeSet<TypeName>),
    /// What a deployment declares: these functions, and every function of these namespaces.
    Declared {
        /// Functions by their whole name.
        functions: BTreeSet<TypeName>,
        /// Namespaces.
        namespaces: BTreeSet<String>,
    },
}

impl Targets {
    /// Whether messages can be sent to the function.
    ///
    /// # Errors
    /// [`ContextError::UnknownFunction`], with the known function whose name is nearest.
    pub fn check(&self, function: &TypeName) -> Result<(), ContextError> {
        let (known, namespaces) = match self {
            Self::Any => return Ok(()),
            Self::Known(known) => (known, None),
            Self::Declared { functions, namespaces } => (functions, Some(namespaces)),
        };
        if known.contains(function) || namespaces.is_some_and(|namespaces| namespaces.contains(function.namespace())) {
            return Ok(());
        }
        let nearest = nearest(function.as_str(), known.iter().map(TypeName::as_str)).and_then(|name| known.get(name)).cloned();
        Err(ContextError::UnknownFunction { function: function.clone(), nearest })
    }
}

/// Which egresses can be sent to.
#[derive(Debug, Clone)]
pub enum Egresses {
    /// Any, with values of up to [`MAX_MESSAGE_BYTES`].
    Any,
    /// These, with the most bytes that a value for each may have: where a record goes may take less than a message may hold, and
    /// a record that nobody takes would hold up its sender for ever.
    Declared(BTreeMap<TypeName, usize>),
}

impl Egresses {
    /// Whether the egress takes a value of this size.
    ///
    /// # Errors
    /// [`ContextError::UnknownEgress`] with the nearest known one, or [`ContextError::TooBig`].
    pub fn check(&self, egress: &TypeName, bytes: usize) -> Result<(), ContextError> {
        let limit = match self {
            Self::Any => MAX_MESSAGE_BYTES,
            Self::Declared(declared) => match declared.get(egress) {
                Some(limit) => MAX_MESSAGE_BYTES.min(*limit),
                None => {
                    let nearest = nearest(egress.as_str(), declared.keys().map(TypeName::as_str));
                    let nearest = nearest.and_then(|name| declared.get_key_value(name)).map(|(name, _)| name.clone());
                    return Err(ContextError::UnknownEgress { egress: egress.clone(), nearest });
                }
            },
        };
        if bytes > limit { Err(ContextError::TooBig { what: "the egress record", bytes, limit }) } else { Ok(()) }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            max_hops: DEFAULT_MAX_HOPS,
            targets: Targets::Any,
            egresses: Egresses::Any,
            budget: Budget::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TypeName {
        TypeName::parse(text).unwrap()
    }

    #[test]
    fn a_declared_namespace_has_any_function() {
        let targets = Targets::Declared { functions: [name("shop/cart")].into(), namespaces: ["flights".to_owned()].into() };
        for known in ["shop/cart", "flights/aircraft", "flights/anything"] {
            assert!(targets.check(&name(known)).is_ok(), "{known}");
        }
        let error = targets.check(&name("shop/card")).unwrap_err().to_string();
        assert_eq!(error, "no function `shop/card` is known here; did you mean `shop/cart`?");
        assert!(targets.check(&name("flight/aircraft")).is_err());
    }

    #[test]
    fn a_declared_egress_has_its_own_limit() {
        let egresses = Egresses::Declared([(name("a/small"), 10), (name("a/big"), usize::MAX)].into());
        assert!(egresses.check(&name("a/small"), 10).is_ok());
        assert!(matches!(egresses.check(&name("a/small"), 11), Err(ContextError::TooBig { limit: 10, .. })));
        assert!(egresses.check(&name("a/big"), MAX_MESSAGE_BYTES).is_ok());
        assert!(egresses.check(&name("a/big"), MAX_MESSAGE_BYTES + 1).is_err());
        let error = egresses.check(&name("a/smal"), 1).unwrap_err().to_string();
        assert_eq!(error, "no egress `a/smal` is known here; did you mean `a/small`?");
        assert!(Egresses::Any.check(&name("a/any"), MAX_MESSAGE_BYTES).is_ok());
    }
}
