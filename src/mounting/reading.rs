//! The files in an image, to be read where nobody sees them: a snapshot exactly as it was, a volume as it
//! is.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result};
use crate::guest::proof;
use crate::mounting::{Guest, Image};
use crate::plan::Observer;
use crate::record::Consistency;
use crate::sys::loopdev::LoopDevice;
use crate::sys::mount::Detached;

/// The root directory of an image's filesystem, and what must stay for it.
#[derive(Debug)]
pub struct Reading {
    /// Its root directory.
    pub root: OwnedFd,
    view: Option<(Detached, LoopDevice)>,
    guest: Option<Guest>,
}

impl Image<'_> {
    /// Opens the filesystem in it for reading.
    pub fn open_to_read(&self, observer: &dyn Observer) -> Result<Reading> {
        if self.place.is_snapshot() {
            return self.open_view(observer);
        }
        if let Some((root, _)) = self.mounted_root()? {
            return Ok(Reading {
                root,
                view: None,
                guest: None,
            });
        }
        let guest = self.open_guest(observer)?;
        let root = guest.root.try_clone().doing("open", self.place.target())?;
        Ok(Reading {
            root,
            view: None,
            guest: Some(guest),
        })
    }

    /// The root directory of the volume's filesystem where it is mounted, and where that is.
    ///
    /// Not one of a directory in it, which is mounted elsewhere as well.
    pub fn mounted_root(&self) -> Result<Option<(OwnedFd, PathBuf)>> {
        let Some(device) = self.device()? else {
            return Ok(None);
        };
        let mounts = self.usage.mounts_of(device);
        let mut roots = mounts.iter().filter(|entry| entry.root == Path::new("/"));
        Ok(roots.find_map(|entry| Some((proof::open(entry, device).ok()?, entry.dir.clone()))))
    }

    fn open_view(&self, observer: &dyn Observer) -> Result<Reading> {
        let consistency = self.record.consistency.unwrap_or(Consistency::Crash);
        let device = self.view_device(consistency, true, observer)?;
        let fs = self.fs()?;
        let mount = Detached::new(&device.path(), fs.as_str(), fs.view_options(consistency))?;
        let root = mount.open_root().doing("open", self.place.target())?;
        Ok(Reading {
            root,
            view: Some((mount, device)),
            guest: None,
        })
    }
}

impl Reading {
    /// Unmounts and detaches what was mounted and attached for this.
    pub fn close(self) -> Result<()> {
        drop(self.root);
        if let Some(guest) = self.guest {
            guest.close()?;
        }
        if let Some((mount, device)) = self.view {
            drop(mount);
            device.close()?;
        }
        Ok(())
    }
}
