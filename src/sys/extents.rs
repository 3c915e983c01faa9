//! The extent map of a file: which of its bytes lie where.

use std::fs::File;
use std::io;

use crate::sys::ioctl::{self, Extent};

/// A run of bytes that lie in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where it is in the file, in bytes.
    pub logical: u64,
    /// Where it is on the device, in bytes.
    pub physical: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Everything in `file` that is written, in order; neighbours that lie in one piece are one run.
///
/// Unwritten extents count as holes: a clone has holes there.  Asked in several calls, so it is one
/// map only while nobody writes.
pub fn written(file: &File) -> io::Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    loop {
        let extents = ioctl::fiemap(file, start)?;
        for extent in &extents {
            start = extent.logical + extent.length;
            if !extent.is_unwritten() {
                push(&mut runs, extent);
            }
        }
        if extents.last().is_none_or(Extent::is_last) {
            return Ok(runs);
        }
    }
}

fn push(runs: &mut Vec<Run>, extent: &Extent) {
    if let Some(last) = runs.last_mut() {
        let is_next = last.logical + last.length == extent.logical
            && last.physical + last.length == extent.physical;
        if is_next {
            last.length += extent.length;
            return;
        }
    }
    runs.push(Run {
        logical: extent.logical,
        physical: extent.physical,
        length: extent.length,
    });
}
