//! Attaching without mounting, and detaching.

use std::path::PathBuf;

use crate::error::{Error, Result, show_path};
use crate::mounting::{Binding, Image};
use crate::plan::{Observer, Step};
use crate::sys::loopdev::{self, Attached};

impl Image<'_> {
    /// What attaching does; nothing where it is attached already.
    pub fn plan_attach(&self) -> Result<Vec<Step>> {
        if self.lasting_device()?.is_some() {
            return Ok(Vec::new());
        }
        self.must_be_attachable()?;
        Ok(vec![self.attach_step()])
    }

    /// A volume that a program writes to, a virtual machine for example, would have two writers.
    fn must_be_attachable(&self) -> Result<()> {
        if self.place.is_snapshot() {
            return Ok(());
        }
        self.image_must_not_be_written_to()
    }

    /// The device that it is attached to; fails where it is one of a mount.
    fn lasting_device(&self) -> Result<Option<&Attached>> {
        let device = self.device()?;
        let Some(of_mount) = device.filter(|device| device.autoclear) else {
            return Ok(device);
        };
        let reference = self.record.uuid.to_string();
        Err(Error::InUse {
            what: self.place.to_string(),
            by: self.usage.of_image(self.id, Some(&reference)),
            hint: Some(format!(
                "its device, {}, goes away with its last mount",
                of_mount.path().display()
            )),
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
        if let Some(device) = self.lasting_device()? {
            return Ok(device.path());
        }
        self.must_be_attachable()?;
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
        let mut done = Vec::new();
        for device in self.detachable()? {
            let path = device.path();
            observer.begin(&Step::Detach {
                device: path.clone(),
            });
            loopdev::detach(device).map_err(|why| after_detaching(&done, why))?;
            done.push(path.display().to_string());
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

/// The error, with what was done before it.
fn after_detaching(done: &[String], why: Error) -> Error {
    if done.is_empty() {
        return why;
    }
    Error::Partly {
        done: format!("{} was detached", done.join(", ")),
        why: Box::new(why),
    }
}
