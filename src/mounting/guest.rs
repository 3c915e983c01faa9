//! The filesystem in a volume, to be asked or changed by ioctl: where it is mounted, or mounted for
//! that where nobody sees it.

use std::os::fd::OwnedFd;

use crate::error::{Context, Error, Result};
use crate::guest::proof;
use crate::mounting::{Binding, Image};
use crate::plan::Observer;
use crate::sys::loopdev::{Attached, LoopDevice};
use crate::sys::mount::Detached;

/// An open guest.
#[derive(Debug)]
pub struct Guest {
    /// Its root directory.
    pub root: OwnedFd,
    /// The device that it is on.
    pub device: Attached,
    mount: Option<Detached>,
    bound: Option<LoopDevice>,
}

impl Image<'_> {
    /// Opens the filesystem in the volume, writable.
    ///
    /// # Errors
    /// Where it is mounted read-only, or cannot be mounted.
    pub fn open_guest(&self, observer: &dyn Observer) -> Result<Guest> {
        let Some(device) = self.device()? else {
            let how = Binding {
                read_only: false,
                autoclear: true,
                direct_io: true,
            };
            let bound = self.bind(&self.open_image()?, how, observer)?;
            return self.mount_unseen(bound.attached().clone(), Some(bound));
        };
        let Some(root) = self.open_mounted(device)? else {
            return self.mount_unseen(device.clone(), None);
        };
        Ok(Guest {
            root,
            device: device.clone(),
            mount: None,
            bound: None,
        })
    }

    /// The root of where it is mounted, if it is.
    fn open_mounted(&self, device: &Attached) -> Result<Option<OwnedFd>> {
        let mounts = self.usage.mounts_of(device);
        let Some(first) = mounts.first() else {
            return Ok(None);
        };
        if first.is_filesystem_read_only() {
            return Err(Error::refused(
                format!("cannot change {}", self.place),
                format!("it is mounted read-only on {}", first.dir.display()),
            )
            .with_hint(format!("mount -o remount,rw {}", first.dir.display())));
        }
        // Another filesystem may be mounted over one of them, and one of them be read-only.
        let writable = mounts.iter().filter(|entry| !entry.is_read_only());
        let mut failed = None;
        for entry in writable {
            match proof::open(entry, device) {
                Ok(root) => return Ok(Some(root)),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::refused(
                format!("cannot change {}", self.place),
                "each of its mounts is read-only",
            )
        }))
    }

    fn mount_unseen(&self, device: Attached, bound: Option<LoopDevice>) -> Result<Guest> {
        let fs = self.fs()?;
        let mount = Detached::new(&device.path(), fs.as_str(), fs.replay_options())?;
        let root = mount.open_root().doing("open", self.place.target())?;
        Ok(Guest {
            root,
            device,
            mount: Some(mount),
            bound,
        })
    }
}

impl Guest {
    /// Unmounts and detaches what was mounted and attached for this.
    pub fn close(self) -> Result<()> {
        drop(self.root);
        if let Some(mount) = self.mount {
            mount.close().doing("unmount", self.device.path())?;
        }
        self.bound.map_or(Ok(()), LoopDevice::close)
    }
}
