//! Events through the real dispatcher, over a backend in memory.
