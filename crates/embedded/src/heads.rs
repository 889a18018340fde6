//! What conditions look at, for the records used last: a commit then needs no read of the disk.

use std::collections::HashMap;

use crate::{batch::Key, tables::records::Head};

/// Heads per generation. A head takes some 150 bytes.
const GENERATION: usize = 50_000;

/// Two generations: when the young one is full it becomes the old one, and what was old and not used again is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    young: HashMap<Key, Head>,
    old: HashMap<Key, Head>,
}

impl Heads {
    /// The head of the record, if it is remembered.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Head> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    /// Remembers what the record's head is now. Returns a generation to be dropped once the mutex is free.
    pub(crate) fn set(&mut self, key: &Key, head: Head) -> Option<HashMap<Key, Head>> {
        if let Some(known) = self.young.get_mut(key) {
            *known = head;
            return None;
        }
        self.young.insert(key.clone(), head);
        if self.young.len() < GENERATION {
            return None;
        }
        let young = std::mem::take(&mut self.young);
        Some(std::mem::replace(&mut self.old, young))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_last_counts_and_memory_is_bounded() {
        let head = |version| Head { version, lease: None, start: 1 };
        let key = |number: usize| Key::from(number.to_be_bytes());
        let mut heads = Heads::default();
        heads.set(&key(0), head(1));
        for number in 1..GENERATION {
            heads.set(&key(number), head(1));
        }
        heads.set(&key(0), head(2));
        assert_eq!(heads.get(&key(0)), Some(head(2)));
        for number in GENERATION..4 * GENERATION {
            heads.set(&key(number), head(1));
        }
        assert_eq!(heads.get(&key(0)), None);
        assert!(heads.young.len() + heads.old.len() <= 2 * GENERATION);
    }
}
