//! Which queue an address belongs to.

use std::{collections::BTreeMap, sync::Arc};

use statefun_core::{Address, TypeName, resource_name, shard_of};

/// The queues of each function: of its own name, or of its namespace. The name of its own counts first.
#[derive(Debug, Clone, Default)]
pub struct FunctionQueues {
    named: BTreeMap<TypeName, Vec<Arc<str>>>,
    namespaces: BTreeMap<String, Vec<Arc<str>>>,
}

impl FunctionQueues {
    /// Adds a function's queues, given as URLs. Their order is part of the deployment: it says which address is where.
    pub fn function(&mut self, name: TypeName, urls: impl IntoIterator<Item = String>) {
        self.named.insert(name, urls.into_iter().map(Into::into).collect());
    }

    /// Adds the queues of all functions of a namespace that have none of their own.
    pub fn namespace(&mut self, namespace: impl Into<String>, urls: impl IntoIterator<Item = String>) {
        self.namespaces.insert(namespace.into(), urls.into_iter().map(Into::into).collect());
    }

    /// The URL of the queue of this address.
    #[must_use]
    pub fn queue_of(&self, address: &Address) -> Option<&Arc<str>> {
        let name = address.function();
        let namespace = || name.as_str().split_once('/').and_then(|(namespace, _)| self.namespaces.get(namespace));
        let queues = self.named.get(name).or_else(namespace)?;
        queues.get(shard_of(address, queues.len()))
    }

    /// The URL of the declared queue with this name; takes the queue's ARN, URL or name.
    #[must_use]
    pub fn url_of(&self, queue: &str) -> Option<&Arc<str>> {
        let name = resource_name(queue);
        self.urls().find(|url| resource_name(url) == name)
    }

    /// All URLs.
    pub fn urls(&self) -> impl Iterator<Item = &Arc<str>> {
        self.named.values().chain(self.namespaces.values()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_its_own_counts_first() {
        let mut queues = FunctionQueues::default();
        queues.function(TypeName::from_static("a/one"), ["http://x/1/one.fifo".to_owned()]);
        queues.namespace("a", ["http://x/1/a-0.fifo".to_owned(), "http://x/1/a-1.fifo".to_owned()]);
        let of = |text: &str| queues.queue_of(&Address::parse(text).unwrap()).map(|url| resource_name(url).to_owned());
        assert_eq!(of("a/one/x").as_deref(), Some("one.fifo"));
        assert_eq!(of("b/one/x"), None);
        let found: std::collections::BTreeSet<_> = (0..50).filter_map(|id| of(&format!("a/other/{id}"))).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a-0.fifo", "a-1.fifo"]);
        assert_eq!(queues.url_of("arn:aws:sqs:r:1:a-1.fifo").map(|url| &**url), Some("http://x/1/a-1.fifo"));
    }
}
