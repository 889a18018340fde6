//! What this package is for is in its tests: what the compiler says to authors of handlers who made a mistake.
