//! Attaching, mounting, and viewing images of a pool.
//!
//! A volume is bound to one loop device at most: who attaches or mounts it again gets the same.
//! What is mounted goes away with its last mount (autoclear); what is attached stays until
//! detached.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Context, Error, Result, show_path};
use crate::guest::Fs;
use crate::image::NewImage;
use crate::plan::{Observer, Step};
use crate::pool::lock::Lock;
use crate::pool::{Edit, Place, Pool};
use crate::record::{Consistency, Record};
use crate::sys::loopdev::{self, Attached, FileId, LoopDevice};
use crate::sys::mount::{self, Options};
use crate::sys::mountinfo::MountEntry;
use crate::sys::{mountinfo, reflink};
use crate::usage::Usage;
use crate::volume::{current_record, remember};

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

    /// The device that it is bound to, if it is.
    fn device(&self) -> Result<Option<&Attached>> {
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

    /// What attaching does; nothing where it is attached already.
    pub fn plan_attach(&self) -> Result<Vec<Step>> {
        let is_attached = self.device()?.is_some_and(|device| !device.autoclear);
        Ok(if is_attached {
            Vec::new()
        } else {
            vec![self.attach_step()]
        })
    }

    fn attach_step(&self) -> Step {
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
        let device = self.bind(
            &self.open_image()?,
            self.place.is_snapshot(),
            false,
            observer,
        )?;
        Ok(device.path())
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
    /// no device yet.  Whoever comes after us sees it.
    fn must_still_be_there(&self) -> Result<()> {
        let _pool = Lock::of_pool(self.pool)?;
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

    fn bind(
        &self,
        file: &File,
        read_only: bool,
        autoclear: bool,
        observer: &dyn Observer,
    ) -> Result<LoopDevice> {
        let reference = self.record.uuid.to_string();
        let options = loopdev::Options {
            read_only,
            autoclear,
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
        if !device.attached().direct_io {
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

    /// A guest that was made by hand is known from its first mount on.
    fn remember_guest(&self) -> Result<()> {
        let Place::Volume(name) = &self.place else {
            return Ok(());
        };
        if !self.is_guest_new {
            return Ok(());
        }
        let file = self.open_image()?;
        let mut edit = Edit::begin(self.pool)?;
        remember(&mut edit, name, &file, &self.record)?;
        edit.save()
    }

    /// What mounting does.
    pub fn plan_mount(&self, dir: &Path, options: &Options) -> Result<Vec<Step>> {
        self.must_not_be_there(dir)?;
        let read_only = self.place.is_snapshot() || options.is_read_only();
        let mount = Step::Mount {
            image: self.place.path(),
            dir: dir.to_owned(),
            fs: self.fs()?.to_string(),
            read_only,
        };
        let is_attached = !self.place.is_snapshot() && self.device()?.is_some();
        Ok(if is_attached {
            vec![mount]
        } else {
            vec![self.attach_step(), mount]
        })
    }

    fn must_not_be_there(&self, dir: &Path) -> Result<()> {
        match mountinfo::at(&self.usage.mounts, dir) {
            Some(here) if self.own_mounts().iter().any(|mount| mount.id == here.id) => {
                Err(Error::Exists {
                    what: format!("a mount of {} on {}", self.place, dir.display()),
                    hint: None,
                })
            }
            _ => Ok(()),
        }
    }

    /// Mounts a volume, or a view of a snapshot.
    pub fn mount(&self, dir: &Path, options: &Options, observer: &dyn Observer) -> Result<()> {
        self.must_not_be_there(dir)?;
        if self.place.is_snapshot() {
            self.view(dir, options, observer)
        } else {
            self.mount_volume(dir, options, observer)
        }
    }

    fn mount_volume(&self, dir: &Path, options: &Options, observer: &dyn Observer) -> Result<()> {
        if let Some(device) = self.device()? {
            // Kept open until it is mounted, so that its number does not become another file's.
            if let Some(_held) = loopdev::hold(device)? {
                return self.mount_device(&device.path(), dir, options, observer);
            }
        }
        observer.begin(&self.attach_step());
        let device = self.bind(&self.open_image()?, false, true, observer)?;
        let result = self.mount_device(&device.path(), dir, options, observer);
        // When the mount failed, this was its last user: gone before we say so.
        if result.is_err() {
            // The mount's own error says more than that somebody looks at the device.
            drop(device.close());
        }
        result
    }

    fn mount_device(
        &self,
        device: &Path,
        dir: &Path,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<()> {
        let fs = self.fs()?;
        observer.begin(&self.mount_step(dir, fs, options.is_read_only()));
        if !options.is_read_only() {
            mount::take_label(device, fs.as_str(), fs.replay_options(), dir)?;
        }
        mount::mount(device, dir, fs.as_str(), options)?;
        if let Err(error) = self.remember_guest() {
            observer.warn(&format!(
                "mounted, but the index still calls it unformatted: {error}"
            ));
        }
        Ok(())
    }

    fn mount_step(&self, dir: &Path, fs: &Fs, read_only: bool) -> Step {
        Step::Mount {
            image: self.place.path(),
            dir: dir.to_owned(),
            fs: fs.to_string(),
            read_only,
        }
    }

    /// Mounts a snapshot read-only, showing exactly what was there, and never changing it.
    ///
    /// Frozen or clean, from a read-only device.  Otherwise its log must be replayed, which
    /// happens in a throw-away clone without a name.
    fn view(&self, dir: &Path, options: &Options, observer: &dyn Observer) -> Result<()> {
        let consistency = self.record.consistency.unwrap_or(Consistency::Crash);
        observer.begin(&self.attach_step());
        let needs_own_uuid =
            self.record.fs == Fs::Btrfs && !crate::guest::btrfs::kernel_tells_twins_apart();
        let device = if consistency == Consistency::Crash || needs_own_uuid {
            self.throw_away_device(consistency, needs_own_uuid, observer)?
        } else {
            self.bind(&self.open_image()?, true, true, observer)?
        };
        let fs = self.fs()?;
        observer.begin(&self.mount_step(dir, fs, true));
        let mut options = options.clone();
        for option in fs.view_options(consistency) {
            options.add(option);
        }
        let result = mount::mount(&device.path(), dir, fs.as_str(), &options);
        if result.is_err() {
            // The mount's own error says more than that somebody looks at the device.
            drop(device.close());
        }
        result
    }

    fn throw_away_device(
        &self,
        consistency: Consistency,
        needs_own_uuid: bool,
        observer: &dyn Observer,
    ) -> Result<LoopDevice> {
        let snapshot = self.open_image()?;
        let image = NewImage::for_place(self.pool, &self.place)?;
        reflink::clone_at_once(&snapshot, &image.file, self.record.size)
            .doing("clone", self.pool.full_path(&self.place))?;
        if needs_own_uuid {
            let device = image.attach(false, self.record.sector)?;
            self.record.fs.renew_uuid(&device.path(), consistency)?;
            device.close()?;
        }
        let backing =
            crate::sys::beneath::reopen(&image.file, OFlags::RDWR).doing("open", "the view")?;
        self.bind(&backing, false, true, observer)
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
    fn must_be_on_top(&self, dir: &Path) -> Result<()> {
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

    /// The mounts of it, and of views of it.
    fn own_mounts(&self) -> Vec<&MountEntry> {
        let reference = self.record.uuid.to_string();
        let devices = self.usage.devices.iter();
        let own = devices.filter(|device| device.shows(self.id, Some(&reference)));
        own.flat_map(|device| self.usage.mounts_of(device))
            .collect()
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

/// The absolute path of a directory to mount on.
pub fn mount_point(dir: &Path) -> Result<PathBuf> {
    let path = dir.canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::NotFound {
            kind: "directory",
            name: dir.display().to_string(),
            hint: Some(format!("mkdir -p {}", show_path(dir))),
        },
        _ => Error::io("find", dir, error),
    })?;
    if path.is_dir() {
        return Ok(path);
    }
    Err(Error::refused(
        format!("cannot mount at {}", dir.display()),
        "it is not a directory",
    ))
}
