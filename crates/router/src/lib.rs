//! Records to addressed envelopes.
