//! Whether anybody but a loop device may have written to a file while it was watched.
//!
//! A loop device writes without a word to inotify(7) (drivers/block/loop.c calls the filesystem
//! itself), all others are seen: `write(2)` as IN_MODIFY, and whoever writes in another way (a
//! mapping, a second loop device) by the descriptor that is needed for it, when it is opened or
//! closed.  Kernels whose loop devices are seen too only make us think that there is a second
//! writer, and be careful.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::sys::loopdev::{self, FileId};
use crate::sys::{beneath, holders};

/// A file that is written by one loop device and, so far, by nobody else.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
    id: FileId,
}

impl Watch {
    /// Watches from now on.
    ///
    /// # Errors
    /// Where somebody else writes already.
    pub fn start(file: &File) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let events = WatchFlags::MODIFY | WatchFlags::OPEN | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&inotify, beneath::fd_path(file), events)?;
        let watch = Self {
            inotify,
            id: FileId::of(file)?,
        };
        if watch.has_another_writer()? {
            return Err(io::Error::other("another program writes to the image"));
        }
        Ok(watch)
    }

    /// Whether nobody else can have written until now.
    pub fn is_quiet(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut is_opened = false;
        loop {
            match reader.next() {
                Ok(event) if event.events() == ReadFlags::OPEN => is_opened = true,
                // Written, or more has happened than the kernel could tell.
                Ok(_) => return Ok(false),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(!is_opened || !self.has_another_writer()?)
    }

    fn has_another_writer(&self) -> io::Result<bool> {
        let devices = loopdev::all_attached().map_err(io::Error::other)?;
        let writable = devices
            .iter()
            .filter(|device| device.file == self.id && !device.read_only);
        Ok(writable.count() > 1 || !holders::writers_of_file(self.id).is_empty())
    }
}
