//! The Lambda entry points.
