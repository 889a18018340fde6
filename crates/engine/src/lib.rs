//! The engine: runs the protocol of `docs/protocol.md` over small [`ports`]. It decides nothing by itself that
//! `statefun-core` can decide, has no clock of its own, and knows no backend.

pub mod ports;
