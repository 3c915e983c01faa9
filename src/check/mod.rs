//! Checking a pool: index, images, records and the kernel's state, held against each other.
//!
//! [`scan`] lists what lies in the directories, [`compare`] holds it against the index and the
//! kernel, [`repair`] rebuilds the index from it, thaws what the dead have left frozen, and finishes
//! what they have begun.  No image is ever deleted.

pub mod compare;
pub mod guests;
pub mod repair;
pub mod scan;
pub mod thaw;

use serde::Serialize;

use crate::error::{Context, Result};
use crate::pool::Pool;
use crate::pool::lock::Lock;
use crate::sys::marker;
use crate::usage::Usage;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Which kind, one word, for scripts.
    pub kind: Kind,
    /// What it is about: a path, a volume, a device.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do, where repairing does not mend it.
    pub hint: Option<String>,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A guest that a dead lovol may have left frozen.
    Frozen,
    /// The index is missing, garbled, or another pool's.
    Index,
    /// Work that a killed lovol has begun.
    Unfinished,
    /// The index names an image that is not there.
    MissingImage,
    /// An image that the index does not name.
    Unindexed,
    /// The index and an image's record differ.
    Differs,
    /// An image without a readable record.
    NoRecord,
    /// An image whose size is not the recorded one.
    Size,
    /// A volume whose resize was not finished.
    Resizing,
    /// Two images with one UUID.
    DuplicateUuid,
    /// Something in the pool that is no image of lovol's.
    Foreign,
    /// An image attached in a way that endangers it.
    Attached,
    /// A mounted volume whose filesystem has given up.
    GuestFailed,
    /// A device that nothing needs.
    Leftover,
}

impl Kind {
    /// Whether `--repair` mends it.
    pub fn is_mendable(self) -> bool {
        matches!(
            self,
            Self::Frozen
                | Self::Index
                | Self::Unfinished
                | Self::Unindexed
                | Self::Differs
                | Self::MissingImage
                | Self::Resizing
        )
    }
}

/// Holds everything against each other, and changes nothing.
pub fn check(pool: &Pool) -> Result<Vec<Finding>> {
    // Under the lock, as another lovol may be between an image and its index entry.
    let lock = Lock::of_pool(pool)?;
    let (mut findings, scanned, usage) = findings(pool)?;
    // A guest may take its time, or hang: nobody is to wait for that.
    drop(lock);
    findings.extend(guests::try_all(&scanned, &usage));
    findings.sort();
    Ok(findings)
}

fn findings(pool: &Pool) -> Result<(Vec<Finding>, scan::Scanned, Usage)> {
    let mut findings = thaw::findings(&marker::abandoned()?);
    let scanned = scan::scan(pool).doing("read", pool.path())?;
    let usage = Usage::look()?;
    findings.extend(scanned.foreign.iter().cloned());
    findings.extend(compare::with_index(pool, &scanned));
    findings.extend(compare::with_kernel(pool, &scanned, &usage));
    Ok((findings, scanned, usage))
}
