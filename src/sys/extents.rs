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

/// A part of a file with a place on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the file, in bytes.
    pub logical: u64,
    /// Where it is on the device, in bytes.
    pub physical: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Whether the filesystem says that another file has it as well.
    pub is_shared: bool,
}

impl Piece {
    /// What is left of it from this place of the file on.
    pub fn from(self, logical: u64) -> Option<Self> {
        let gone = logical.saturating_sub(self.logical);
        (gone < self.length).then(|| Self {
            logical: self.logical + gone,
            physical: self.physical + gone,
            length: self.length - gone,
            ..self
        })
    }
}

/// Reads the map of a file, some extents at a time.
#[derive(Debug)]
pub struct Reader<'f> {
    file: &'f File,
    next: u64,
    read: std::vec::IntoIter<Extent>,
    is_small: bool,
    is_over: bool,
}

impl<'f> Reader<'f> {
    /// One of so many that read at once, which share the memory.
    pub fn new(file: &'f File, readers: usize) -> Self {
        Self {
            file,
            next: 0,
            read: Vec::new().into_iter(),
            is_small: readers > 1000,
            is_over: false,
        }
    }

    /// The next piece, whatever is in it; what has no place yet is passed over.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let Some(extent) = self.read.next() else {
                if self.is_over {
                    return Ok(None);
                }
                let extents = if self.is_small {
                    ioctl::fiemap_few(self.file, self.next)?
                } else {
                    ioctl::fiemap(self.file, self.next)?
                };
                self.is_over = extents.last().is_none_or(Extent::is_last);
                self.read = extents.into_iter();
                continue;
            };
            self.next = extent.logical + extent.length;
            if extent.has_place() {
                return Ok(Some(Piece {
                    logical: extent.logical,
                    physical: extent.physical,
                    length: extent.length,
                    is_shared: extent.is_shared(),
                }));
            }
        }
    }
}

/// How many of these bytes the filesystem says that another file has as well.
pub fn shared_within(file: &File, start: u64, length: u64) -> io::Result<u64> {
    let (mut at, end) = (start, start + length);
    let mut shared = 0;
    while at < end {
        let extents = ioctl::fiemap_within(file, at, end - at)?;
        for extent in &extents {
            let from = extent.logical.max(start);
            let to = (extent.logical + extent.length).min(end);
            if extent.is_shared() && extent.has_place() {
                shared += to.saturating_sub(from);
            }
            at = to.max(at);
        }
        if extents.last().is_none_or(Extent::is_last) {
            break;
        }
    }
    Ok(shared)
}
