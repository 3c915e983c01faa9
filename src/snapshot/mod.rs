//! Taking images at one instant: what `snapshot`, `clone` and `create --from` share, for images in a
//! pool and outside, for one and for several at once.
//!
//! ```text
//! way      which way: frozen, or by one single call
//! passes   pre-clone, unfrozen, in small ranges      ~60 us an extent, nobody waits for long
//! tracker  what is written meanwhile, from block events
//! take     syncfs; freeze all                         FIFREEZE
//!          clone over the same files: what was written since, or
//!          everything (~1 us an extent: what is shared is skipped)
//!          thaw all; check; fsync                     FITHAW
//! request  the above for a pool's volumes: names, records, the index
//! ```
//! Cloned in ranges without a freeze, an image is torn (ranges of different moments): so what is
//! taken unfrozen is one single call over the whole file, which is one instant (the kernel holds
//! the image's lock for all of it).

pub mod dirty;
pub mod passes;
pub mod request;
pub mod share;
pub mod take;
pub mod taking;
pub mod tracker;
pub mod way;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::guest::Fs;
use crate::record::Consistency;

pub use crate::sys::freeze::Limits;
pub use take::{take, take_all};
pub use taking::{Job, Taking};
pub use way::{Way, choose};

/// An image to be taken.
#[derive(Debug)]
pub struct Source<'a> {
    /// What messages call it, such as `home`.
    pub name: String,
    /// The image, open for reading.
    pub file: &'a File,
    /// What is in it.
    pub fs: &'a Fs,
    /// The sectors that it needs, if smaller than 4096 bytes.
    pub sector: Option<u32>,
    /// Where it is and where its clone is to be, for the plan.
    pub paths: (PathBuf, PathBuf),
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The instant.
    pub at: Timestamp,
    /// How consistent the guest is.
    pub consistency: Consistency,
    /// How long it was frozen.
    pub frozen: Option<Duration>,
    /// How many extents the clone has.
    pub extents: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
}
