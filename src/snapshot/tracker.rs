//! Following what is written to an image while it is cloned, so that inside the freeze only that is
//! cloned again.
//!
//! ```text
//! loop device completes a write -> completions (a ring per CPU) -> dirty (a bit per block)
//! ```
//! It starts before a pass over everything.  What is written before a range's turn in that pass is
//! in the clone; what is written after is recorded, as a write is in the file before it is recorded.
//! So the clone is what the image is, but for the recorded parts, and they are cloned again: unfrozen
//! until they are few, and the rest inside the freeze, when nothing completes any more.
//!
//! Right comes before short.  When a record is missing, everything is cloned once more: unfrozen if
//! there is time, else inside the freeze.  When somebody else may have written to the image beside the
//! loop device, everything is cloned inside the freeze; if that is seen only after the thaw, inside a
//! second one.

use std::fs::File;
use std::io;

use crate::snapshot::dirty::Dirty;
use crate::sys::completions::Completions;
use crate::sys::loopdev::Attached;
use crate::sys::watch::Watch;

/// Follows what is written to one image through one loop device.
#[derive(Debug)]
pub struct Tracker {
    loop_number: u32,
    /// How many images are followed, this one among them.
    images: usize,
    /// None where it could not begin anew.
    completions: Option<Completions>,
    watch: Watch,
    dirty: Dirty,
    /// The other bitmap, empty: nothing is allocated while frozen.
    spare: Dirty,
    is_lost: bool,
}

impl Tracker {
    /// Follows from now on, as one of so many images.
    ///
    /// # Errors
    /// Where that cannot be done, or would not be enough.
    pub fn start(device: &Attached, image: &File, size: u64, images: usize) -> io::Result<Self> {
        if !device.is_whole {
            return Err(io::Error::other(
                "the device shows only a part of the image",
            ));
        }
        Ok(Self {
            loop_number: device.number,
            images,
            watch: Watch::start(image)?,
            completions: Some(Completions::start(device.number, images)?),
            dirty: Dirty::none_of(size),
            spare: Dirty::none_of(size),
            is_lost: false,
        })
    }

    /// Empties the rings, which have room for some thousand records each.
    pub fn follow(&mut self) {
        let dirty = &mut self.dirty;
        if let Some(completions) = &mut self.completions {
            completions.drain(|offset, length| dirty.add(offset, length));
        }
    }

    /// What was written since the last time, to be handed back by [`Tracker::put_back`]; `None` if
    /// that is not known.
    ///
    /// Does not allocate, and asks the kernel for nothing but the device's statistics.
    pub fn take(&mut self) -> Option<Dirty> {
        let dirty = &mut self.dirty;
        let completions = self.completions.as_mut().filter(|_| !self.is_lost)?;
        let is_all = completions.drain_all(|offset, length| dirty.add(offset, length));
        if !is_all.unwrap_or(false) {
            return None;
        }
        let spare = std::mem::replace(&mut self.spare, Dirty::none_of(0));
        Some(std::mem::replace(&mut self.dirty, spare))
    }

    /// Gives [`Tracker::take`]'s bitmap back, once all of it is cloned.
    pub fn put_back(&mut self, mut taken: Dirty) {
        taken.clear();
        self.spare = taken;
    }

    /// Begins anew, before a pass over everything, after something was missed.
    pub fn start_over(&mut self) {
        if self.is_lost {
            return;
        }
        // The memory of the old rings first: there is only so much for all.
        self.completions = None;
        match Completions::start(self.loop_number, self.images) {
            Ok(completions) => self.completions = Some(completions),
            Err(_) => self.lose(),
        }
    }

    /// Knows nothing from now on: everything is to be cloned at the instant.
    pub fn lose(&mut self) {
        self.is_lost = true;
    }

    /// Whether it knows all that was written since it began.
    pub fn is_complete(&self) -> bool {
        !self.is_lost
    }

    /// Whether nobody has written beside the device until now.  What is cloned is right if that is
    /// so after the instant.
    pub fn is_right(&self) -> bool {
        self.is_lost || self.watch.is_quiet().unwrap_or(false)
    }
}
