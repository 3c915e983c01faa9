//! Attaching without mounting, and detaching.

use std::path::PathBuf;

use crate::error::{Error, Result, show_path};
use crate::mounting::{Binding, Image};
use crate::plan::{Observer, Step};
use crate::sys::loopdev::{self, Attached};

impl Image<'_> {
    /// What attaching does; nothing where it is attached already.
    pub fn plan_attach(&self) -> Result<Vec<Step>> {
        let is_attached = self.device()?.is_some_and(|device| !device.autoclear);
        Ok(if is_attached {
            Vec::new()
        } else {
            vec![self.attach_step()]
        })
    }

    pub(super) fn attach_step(&self) -> Step {
        Step::Attach {
            image: self.place.path(),
            read_only: self.place.is_snapshot(),
        }
    }

    /// Binds it to a device that stays, or finds the one that it is bound to.
    pub fn attach(&self, observer: &dyn Observer) -> Result<PathBuf> {
        if let Some(device) = self.device()? {
            if device.autoclear {
                return Err(Error::InUse {
                    what: self.place.to_string(),
                    by: self
                        .usage
                        .of_image(self.id, Some(&self.record.uuid.to_string())),
                    hint: Some(format!(
                        "its device, {}, goes away with its last mount",
                        device.path().display()
                    )),
                });
            }
            return Ok(device.path());
        }
        observer.begin(&self.attach_step());
        let how = Binding {
            read_only: self.place.is_snapshot(),
            autoclear: false,
            direct_io: true,
        };
        let device = self.bind(&self.open_image()?, how, observer)?;
        Ok(device.path())
    }

    /// What detaching does.
    pub fn plan_detach(&self) -> Result<Vec<Step>> {
        let devices = self.detachable()?;
        Ok(devices
            .iter()
            .map(|device| Step::Detach {
                device: device.path(),
            })
            .collect())
    }

    /// Frees its devices, and waits until that is true.
    pub fn detach(&self, observer: &dyn Observer) -> Result<()> {
        for device in self.detachable()? {
            observer.begin(&Step::Detach {
                device: device.path(),
            });
            loopdev::detach(device)?;
        }
        Ok(())
    }

    fn detachable(&self) -> Result<Vec<&Attached>> {
        let devices: Vec<&Attached> = self.usage.devices_of(self.id).collect();
        if devices.is_empty() {
            return Err(Error::refused(
                format!("cannot detach {}", self.place),
                "it is not attached",
            ));
        }
        for device in &devices {
            let mounts = self.usage.mounts_of(device);
            if let Some(mount) = mounts.first() {
                let hint = format!("'lovol umount {}' unmounts it", show_path(&mount.dir));
                let by = vec![format!(
                    "mounted on {} ({})",
                    mount.dir.display(),
                    device.path().display()
                )];
                return Err(Error::InUse {
                    what: self.place.to_string(),
                    by,
                    hint: Some(hint),
                });
            }
        }
        Ok(devices)
    }
}
