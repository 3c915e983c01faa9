//! Attaching, mounting, and viewing images of a pool.
//!
//! A volume is bound to one loop device at most: who attaches or mounts it again gets the same.
//! What is mounted goes away with its last mount (autoclear); what is attached stays until
//! detached.

mod again;
mod attach;
mod guest;
mod mount;
mod mounted;
mod options;
mod reading;
mod umount;

use std::fs::File;

use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::guest::Fs;
use crate::plan::Observer;
use crate::pool::edit::Edit;
use crate::pool::lock::Lock;
use crate::pool::{Place, Pool};
use crate::record::Record;
use crate::sys::loopdev::{self, Attached, FileId, LoopDevice};
use crate::sys::mountinfo::MountEntry;
use crate::usage::Usage;
use crate::volume::current_record;

pub use again::Again;
pub use guest::Guest;
pub use mount::mount_point;
pub use mounted::Mounted;
pub use options::Options;
pub use reading::Reading;

/// An image of the pool, locked, and what uses it.
#[derive(Debug)]
pub struct Image<'p> {
    pool: &'p Pool,
    place: Place,
    record: Record,
    usage: Usage,
    id: FileId,
    /// The record did not know what is in the image: somebody made it by hand.
    is_guest_new: bool,
    lock: Lock,
}

/// How an image is bound to a device.
#[derive(Clone, Copy, Debug)]
struct Binding {
    read_only: bool,
    autoclear: bool,
    direct_io: bool,
}

impl<'p> Image<'p> {
    /// Locks the image.
    pub fn open(pool: &'p Pool, place: &Place) -> Result<Self> {
        let lock = Lock::of_image(pool, place)?;
        let record = place.record_in(&pool.index()?)?.clone();
        let id = pool.image_id(place)?;
        let current = match record.fs {
            Fs::None => current_record(&pool.open_image(place, OFlags::RDONLY)?, &record)?,
            _ => record.clone(),
        };
        Ok(Self {
            pool,
            place: place.clone(),
            is_guest_new: current != record,
            record: current,
            usage: Usage::look()?,
            id,
            lock,
        })
    }

    /// What is known of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The device that it was bound to when this was opened, if it was.
    pub fn device(&self) -> Result<Option<&Attached>> {
        let is_snapshot = self.place.is_snapshot();
        let devices: Vec<&Attached> = self.usage.devices_of(self.id).collect();
        for device in &devices {
            let how = match (is_snapshot, device.read_only, device.is_whole) {
                (_, _, false) => "a part of it is attached",
                (true, false, _) => "attached read-write",
                (false, true, _) => "attached read-only",
                _ => continue,
            };
            return Err(self.in_use(format!("{how} to {}", device.path().display())));
        }
        match devices.as_slice() {
            [] => Ok(None),
            [device, rest @ ..] if is_snapshot || rest.is_empty() => Ok(Some(device)),
            _ => {
                let paths: Vec<_> = devices
                    .iter()
                    .map(|device| device.path().display().to_string())
                    .collect();
                Err(self.in_use(format!("attached more than once ({})", paths.join(", "))))
            }
        }
    }

    fn in_use(&self, by: String) -> Error {
        Error::InUse {
            what: self.place.to_string(),
            by: vec![by],
            hint: Some("'losetup -d DEVICE' detaches one".into()),
        }
    }

    fn open_image(&self) -> Result<File> {
        let flags = if self.place.is_snapshot() {
            OFlags::RDONLY
        } else {
            OFlags::RDWR
        };
        self.pool.open_image(&self.place, flags)
    }

    /// A volume may have gone to the trash with this snapshot since we locked it, by somebody who saw
    /// no device yet; or be about to go, by one who was killed, which is taken back now.  Whoever comes
    /// after us sees it.
    fn must_still_be_there(&self) -> Result<()> {
        let lock = Lock::of_pool(self.pool)?;
        if self.pool.index()?.intents.is_empty() {
            // Nothing is written: a view can be had while the pool is frozen or full.
            return self.lock.must_be_of(self.pool, &self.place);
        }
        drop(lock);
        let _edit = Edit::begin(self.pool)?;
        self.lock.must_be_of(self.pool, &self.place)
    }

    /// Somebody who knows nothing of our lock may have attached it since we looked.
    fn must_be_alone(&self, device: &LoopDevice) -> Result<()> {
        let usage = Usage::look()?;
        let is_other =
            |other: &&Attached| other.number != device.attached().number && !other.read_only;
        let Some(other) = usage.devices_of(device.attached().file).find(is_other) else {
            return Ok(());
        };
        Err(self.in_use(format!("attached to {}", other.path().display())))
    }

    fn bind(&self, file: &File, how: Binding, observer: &dyn Observer) -> Result<LoopDevice> {
        let reference = self.record.uuid.to_string();
        let options = loopdev::Options {
            read_only: how.read_only,
            autoclear: how.autoclear,
            direct_io: how.direct_io,
            sector: self.record.sector,
            reference: &reference,
        };
        let device = LoopDevice::attach(file, options)?;
        let checked = self
            .must_be_alone(&device)
            .and_then(|()| self.must_still_be_there());
        if let Err(error) = checked {
            // Then ours goes; what was made with autoclear does so by itself.
            if !device.attached().autoclear {
                drop(loopdev::detach_own(&device));
            }
            return Err(error);
        }
        if how.direct_io && !device.attached().direct_io {
            observer.warn(&format!(
                "{} has no direct I/O: the kernel refused it for this filesystem, so data is cached twice",
                device.path().display()
            ));
        }
        Ok(device)
    }

    fn fs(&self) -> Result<&Fs> {
        if self.record.fs == Fs::None {
            let why = "there is no filesystem in it";
            return Err(Error::refused(format!("cannot mount {}", self.place), why)
                .with_hint("'lovol attach' it and make one on the device that this prints"));
        }
        Ok(&self.record.fs)
    }

    /// The mounts of it, and of views of it.
    fn own_mounts(&self) -> Vec<&MountEntry> {
        mounted::mounts_of(&self.usage, self.id, self.record.uuid)
    }
}
