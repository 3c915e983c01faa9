//! The guest's share of the time while its image is cloned in use.
//!
//! Each clone call holds the image's lock, and the guest's writes wait for it.  One call after the
//! other would leave it no time between them; so whenever the guest does something, we rest for half
//! as long again as we have worked: as long left a writer of single blocks, each synced, 45 % of its
//! writes, and it is to keep half.  A guest that does nothing is not waited for.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::thread::sleep;
use std::time::Duration;

/// No rest is longer, however long a call was.
const LONGEST: Duration = Duration::from_millis(100);

/// What the kernel counts of a block device (Documentation/block/stat.rst).
#[derive(Debug)]
pub struct Share {
    stat: Option<File>,
    last: Counts,
}

/// A line of numbers.
type Counts = [u8; 256];

impl Share {
    /// For the guest on loop device `number`; where it cannot be seen, nobody is waited for.
    pub fn of_device(number: u32) -> Self {
        let mut share = Self {
            stat: File::open(format!("/sys/block/loop{number}/stat")).ok(),
            last: [0; 256],
        };
        share.has_worked();
        share
    }

    /// For an image that no guest uses.
    pub fn of_nobody() -> Self {
        Self {
            stat: None,
            last: [0; 256],
        }
    }

    /// Rests if the guest has done something since the last time.
    pub fn rest_after(&mut self, worked: Duration) {
        if self.has_worked() {
            sleep((worked * 3 / 2).min(LONGEST));
        }
    }

    /// A number has changed: a request was completed, or one waits.
    fn has_worked(&mut self) -> bool {
        let Some(stat) = &self.stat else { return false };
        let mut now = [0; 256];
        if stat.read_at(&mut now, 0).is_err() {
            return false;
        }
        let has_changed = now != self.last;
        self.last = now;
        has_changed
    }
}
