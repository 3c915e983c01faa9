//! The tests that need the device mapper: the pool's own disk fails, or remembers every write.
//!
//! They are no part of `cargo test`, as many kernels have no dm-flakey and no dm-log-writes.  `make
//! check-6.1` runs them on one that has; elsewhere `cargo test --test disks` as root.  Where those
//! targets are missing they fail.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking, and its name says what it is about"
)]

mod disk_cuts;
mod failing_disk;
mod mapper;
#[path = "../support/mod.rs"]
mod support;
mod write_log;
