//! The AWS adapters.
