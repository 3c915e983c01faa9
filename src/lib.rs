//! lovol: volumes and instant snapshots on filesystems with reflinks.
//!
//! A sparse file can hold a filesystem, a loop device can mount it, and a reflink copies it for
//! almost nothing.  lovol makes of those three something to rely on: a [`pool`] of volumes, each
//! one image with a [`guest`] filesystem in it, and [`snapshot`]s of them.
//!
//! ```text
//! commands   one verb, one file: its arguments and what it prints
//!    |
//! domain     pool, index, record, volume, snapshot, clone, mounting, trash, check, space, resize,
//!    |       rollback, prune, provision, ...: no printing
//! sys        all that asks the kernel or runs a tool; only ioctl and what lies in it has `unsafe`
//! ```
//!
//! # What is never broken
//! 1. Nothing stays frozen ([`sys::freeze`], [`sys::guardian`], [`sys::marker`]).
//! 2. What somebody else froze is theirs to thaw.
//! 3. A snapshot is one instant and a whole image, or there is none ([`snapshot`]).
//! 4. An image is never attached read-write twice, nor taken away from who uses it ([`usage`],
//!    [`pool::lock`]).
//! 5. A failed command changes nothing: what has to be undone is owned by a guard until the end.
//! 6. A destination is never destroyed to make room ([`clone`]).
//! 7. Nothing outside the pool is touched through a name, link or race ([`sys::beneath`]).
//! 8. A log is never zeroed, a signature never overwritten ([`guest`]).
//! 9. Data is never copied where a reflink was promised ([`sys::reflink`]).
//!
//! The library exists for the binary and its tests; its interface is documented, not stable.

pub mod check;
pub mod claims;
pub mod cli;
pub mod clone;
pub mod commands;
pub mod complete;
pub mod diff;
pub mod error;
pub mod fragments;
pub mod fstab;
pub mod guest;
pub mod holds;
pub mod image;
pub mod index;
pub mod keep;
pub mod mounting;
pub mod name;
pub mod output;
pub mod plan;
pub mod pool;
pub mod properties;
pub mod provision;
pub mod prune;
pub mod record;
pub mod rename;
pub mod report;
pub mod resize;
pub mod restore;
pub mod retention;
pub mod rollback;
pub mod shares;
pub mod size;
pub mod snapshot;
pub mod space;
pub mod spec;
mod staging;
pub mod sys;
pub mod target;
pub mod time;
pub mod trash;
pub mod trim;
pub mod usage;
pub mod volume;
pub mod watch;
