//! The tests of lovol: real loop devices, real guests, and no mock of the kernel.
//!
//! They need root, loop devices and a few tools: `make check` installs the tools and runs them
//! all, `cargo test smoke::` some of them. Every pool lives in a temporary directory of its own
//! (beneath `$TMPDIR`), so they run side by side, and beside the machine's own volumes.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking, and its name says what it is about"
)]

mod completions;
mod crowd;
mod cuts;
mod databases;
mod examples;
mod extents;
mod faults;
mod faults_devices;
mod faults_freeze;
mod faults_input;
mod faults_plan;
mod faults_pool;
mod files;
mod generated;
mod groups;
mod install;
mod keeping;
mod mount_helper;
mod parsers;
mod pools;
mod properties;
mod provision;
mod pruning;
mod races;
mod rollback;
mod sizes;
mod smoke;
mod snapshots;
mod space;
mod support;
mod tracking;
mod volumes;
