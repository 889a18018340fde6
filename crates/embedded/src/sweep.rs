//! Cursors, and the removal of what has expired.

use std::ops::Bound;

use statefun_core::Timestamp;
use statefun_engine::ports::PortError;

use crate::{
    Embedded, Op,
    batch::{Key, Table},
    shared::refused,
    tables::accepted::{self, Expiring},
};

impl Embedded {
    /// Deletes up to `limit` accepted ids and ledger segments that expired before `now`. Returns how many; fewer than `limit`
    /// means that no more have.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, PortError> {
        let shared = self.shared();
        let end = now.0.to_be_bytes();
        let mut expired: Vec<(Timestamp, Expiring, Key)> = Vec::new();
        shared.pages("sweep", Table::Expiries, &[], Bound::Excluded(&end), |rows| {
            for (key, _) in rows.into_iter().take(limit - expired.len()) {
                let (at, expiring) = Expiring::of_key(&key).map_err(|error| refused("sweep", error))?;
                expired.push((at, expiring, key));
            }
            Ok(expired.len() < limit)
        })?;
        if expired.is_empty() {
            return Ok(0);
        }
        let rows: Vec<_> = expired.iter().map(|(_, expiring, _)| expiring.row()).collect();
        let keys: Vec<_> = rows.iter().map(|(table, key)| (*table, &key[..])).collect();
        let (mut guard, values) = shared.rows("sweep", &keys)?;
        let swept = expired.len();
        for (((at, expiring, key), (table, row)), value) in expired.into_iter().zip(rows).zip(values) {
            guard.log.delete(Table::Expiries, key);
            // An id that came in again after its time is remembered anew, with another expiry.
            let renewed = matches!(expiring, Expiring::Accepted(_))
                && value.is_none_or(|value| accepted::decode(&value).is_ok_and(|accepted| accepted.expires != at));
            if !renewed {
                guard.log.delete(table, row);
            }
        }
        shared.finish(guard);
        Ok(swept)
    }

    /// The bytes kept under a text key.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn cursor(&self, name: &str) -> Result<Option<Vec<u8>>, PortError> {
        let (state, mut rows) = self.shared().rows("cursor", &[(Table::Cursors, name.as_bytes())])?;
        drop(state);
        Ok(rows.pop().flatten().map(|value| value.to_vec()))
    }

    /// What is kept under the text keys that begin like this.
    ///
    /// # Errors
    /// If the store is closed, damaged or failed.
    pub fn cursors(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, PortError> {
        let mut found = Vec::new();
        self.shared().pages("cursors", Table::Cursors, prefix.as_bytes(), Bound::Unbounded, |rows| {
            for (key, value) in rows {
                if !key.starts_with(prefix.as_bytes()) {
                    return Ok(false);
                }
                let key = std::str::from_utf8(&key).map_err(|error| refused("cursors", error))?;
                found.push((key.to_owned(), value.to_vec()));
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Keeps bytes under a text key.
    ///
    /// # Errors
    /// If the store is closed or failed.
    pub fn set_cursor(&self, name: &str, value: Vec<u8>) -> Result<Op, PortError> {
        let shared = self.shared();
        let mut state = shared.lock("set_cursor")?;
        state.log.put(Table::Cursors, name.as_bytes().into(), value.into());
        Ok(shared.finish(state))
    }
}
