//! Unmounting.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, show_path};
use crate::mounting::Image;
use crate::plan::{Observer, Step};
use crate::sys::{loopdev, mount, mountinfo};
use crate::usage::Usage;

impl Image<'_> {
    /// Where it is mounted, last mount first.
    pub fn mount_dirs(&self) -> Vec<PathBuf> {
        // The table has them in the order in which they were mounted.  Their ids have not: they are
        // used again (fs/namespace.c, `mnt_alloc_id`).
        let own: Vec<u64> = self.own_mounts().iter().map(|mount| mount.id).collect();
        let mounts = self.usage.mounts.iter().rev();
        let mounts = mounts.filter(|mount| own.contains(&mount.id));
        mounts.map(|mount| mount.dir.clone()).collect()
    }

    /// Fails where another filesystem is mounted over this one: that is not ours to unmount.
    pub(super) fn must_be_on_top(&self, dir: &Path) -> Result<()> {
        let table = mountinfo::read()?;
        let own = self.own_mounts();
        match mountinfo::at(&table, dir) {
            Some(top) if own.iter().any(|mount| mount.id == top.id) => Ok(()),
            Some(top) => Err(Error::InUse {
                what: dir.display().to_string(),
                by: vec![format!("{} is mounted over it", top.source.display())],
                hint: Some("unmount that first".into()),
            }),
            None => Err(Error::refused(
                format!("cannot unmount {}", dir.display()),
                "nothing is mounted there",
            )),
        }
    }

    /// Unmounts these directories of it, and waits until devices that go with them are gone.
    pub fn unmount(&self, dirs: &[PathBuf], observer: &dyn Observer) -> Result<()> {
        let reference = self.record.uuid.to_string();
        for (number, dir) in dirs.iter().enumerate() {
            observer.begin(&Step::Unmount { dir: dir.clone() });
            let unmounted = self.must_be_on_top(dir).and_then(|()| mount::unmount(dir));
            unmounted.map_err(|why| after_unmounting(dirs.split_at(number).0, why))?;
        }
        let after = match Usage::look() {
            Ok(after) => after,
            Err(error) => {
                // Unmounted it is all the same.
                observer.warn(&error.to_string());
                return Ok(());
            }
        };
        let own = after
            .devices
            .iter()
            .filter(|device| device.shows(self.id, Some(&reference)));
        for device in own.filter(|device| device.autoclear && after.mounts_of(device).is_empty()) {
            // Unmounted it is; what else uses the device is somebody else's mount, or a probe.
            if let Err(error) = loopdev::wait_until_gone(device) {
                observer.warn(&error.to_string());
            }
        }
        Ok(())
    }
}

/// The error, with what was done before it.
fn after_unmounting(done: &[PathBuf], why: Error) -> Error {
    let shown: Vec<String> = done.iter().map(|dir| show_path(dir)).collect();
    let verb = match done.len() {
        0 => return why,
        1 => "was",
        _ => "were",
    };
    Error::Partly {
        done: format!("{} {verb} unmounted", shown.join(", ")),
        why: Box::new(why),
    }
}
