//! Tests of a turn.
