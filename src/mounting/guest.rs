//! The filesystem in a volume, to be asked or changed by ioctl: where it is mounted, or mounted for
//! that where nobody sees it.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use crate::error::{Context, Error, Result};
use crate::guest::proof;
use crate::mounting::{Binding, Image};
use crate::plan::Observer;
use crate::sys::loopdev::{Attached, LoopDevice};
use crate::sys::mount::Detached;
use crate::sys::{holders, ioctl};

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
            self.must_not_be_used_unseen()?;
            let how = Binding {
                read_only: false,
                autoclear: true,
                direct_io: true,
            };
            let bound = self.bind(&self.open_image()?, how, observer)?;
            return self.mount_unseen(bound.attached().clone(), Some(bound));
        };
        let Some(root) = self.open_mounted(device)? else {
            self.must_not_be_used_unseen()?;
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

    /// Fails where anything has the image open, a device of its own included.
    pub fn must_be_closed(&self) -> Result<()> {
        self.lock.must_be_alone(&self.place.to_string())
    }

    /// Fails where a program uses an image that is not mounted, a virtual machine for example: what it
    /// knows of the filesystem would be wrong.
    pub fn must_not_be_used_unseen(&self) -> Result<()> {
        let users = if let Some(device) = self.device()? {
            let mut users = device.stacked_on_it();
            users.extend(holders::of_device_for_long(device.number));
            users
        } else {
            self.writers()?
        };
        let hint = "end that first, or let it do this to its own filesystem";
        self.must_have_no_users(users, hint.into())
    }

    /// Fails where a program writes to the image, which is not attached, or has it open for that.
    pub(super) fn image_must_not_be_written_to(&self) -> Result<()> {
        self.must_have_no_users(self.writers()?, self.end_that_first())
    }

    /// The same for its device, which is not mounted.
    ///
    /// Who only reads it does no harm to a mount: udev does, after each attaching.
    pub(super) fn device_must_not_be_written_to(&self, device: &Attached) -> Result<()> {
        let users = holders::that_stay(|| holders::writers_of_device(device.number));
        self.must_have_no_users(users, self.end_that_first())
    }

    fn end_that_first(&self) -> String {
        format!(
            "end that first; 'lovol snapshot --crash {}' takes what is there meanwhile",
            self.place.target()
        )
    }

    /// Who has the image, which is not attached, open for writing.
    fn writers(&self) -> Result<Vec<String>> {
        let file = self.pool.open_image(&self.place, OFlags::RDONLY)?;
        if ioctl::is_nobody_writing(&file).doing("lease", self.place.target())? {
            return Ok(Vec::new());
        }
        // A device that has just gone may be about to close it.
        Ok(holders::that_stay(|| {
            match ioctl::is_nobody_writing(&file) {
                Ok(true) => Vec::new(),
                _ => self.who_has_it_open(),
            }
        }))
    }

    fn who_has_it_open(&self) -> Vec<String> {
        let users = holders::of_file(self.id);
        if users.is_empty() {
            return vec!["something in the kernel has it open".into()];
        }
        users
    }

    fn must_have_no_users(&self, users: Vec<String>, hint: String) -> Result<()> {
        if users.is_empty() {
            return Ok(());
        }
        Err(Error::InUse {
            what: self.place.to_string(),
            by: users,
            hint: Some(hint),
        })
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
