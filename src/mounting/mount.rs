//! Mounting volumes, and views of snapshots.

use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Context, Error, Result, show_path};
use crate::guest::Fs;
use crate::image::NewImage;
use crate::mounting::{Binding, Image, Options};
use crate::plan::{Observer, Step};
use crate::pool::{Edit, Place};
use crate::record::Consistency;
use crate::sys::loopdev::{self, Attached, LoopDevice};
use crate::sys::{beneath, mount, mountinfo, reflink};
use crate::volume::remember;

impl Image<'_> {
    /// What mounting does.
    pub fn plan_mount(&self, dir: &Path, options: &Options) -> Result<Vec<Step>> {
        self.must_not_be_there(dir, options)?;
        self.must_be_mountable()?;
        let read_only = self.place.is_snapshot() || options.guest.is_read_only();
        let fs = self.fs()?;
        let mount = self.mount_step(dir, fs, read_only);
        let device = self.device()?;
        let is_attached = !self.place.is_snapshot() && device.is_some();
        let mut steps = Vec::new();
        if !is_attached {
            steps.push(self.attach_step());
        }
        if options.check && device.is_none_or(|device| self.usage.mounts_of(device).is_empty()) {
            steps.push(self.check_step(fs));
        }
        steps.push(mount);
        Ok(steps)
    }

    /// Whether it is what is seen at this directory.
    pub fn is_mounted_at(&self, dir: &Path) -> bool {
        let own = self.own_mounts();
        let here = mountinfo::at(&self.usage.mounts, dir);
        here.is_some_and(|here| own.iter().any(|mount| mount.id == here.id))
    }

    fn must_not_be_there(&self, dir: &Path, options: &Options) -> Result<()> {
        let is_here = options.guest.namespace.is_none();
        if is_here && self.is_mounted_at(dir) {
            return Err(Error::Exists {
                what: format!("a mount of {} on {}", self.place, dir.display()),
                hint: None,
            });
        }
        Ok(())
    }

    /// A mount and a program that writes to the volume, a virtual machine for example, would destroy
    /// each other's filesystem.
    fn must_be_mountable(&self) -> Result<()> {
        if self.place.is_snapshot() {
            return Ok(());
        }
        match self.device()? {
            Some(device) => self.device_must_be_mountable(device),
            None => self.image_must_not_be_written_to(),
        }
    }

    /// What is mounted already is mounted elsewhere as well.
    fn device_must_be_mountable(&self, device: &Attached) -> Result<()> {
        if self.usage.mounts_of(device).is_empty() {
            self.device_must_not_be_written_to(device)?;
        }
        Ok(())
    }

    /// Mounts a volume, or a view of a snapshot.
    pub fn mount(&self, dir: &Path, options: &Options, observer: &dyn Observer) -> Result<()> {
        self.must_not_be_there(dir, options)?;
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
                self.device_must_be_mountable(device)?;
                if options.check && self.usage.mounts_of(device).is_empty() {
                    self.check(&device.path(), observer)?;
                }
                return self.mount_device(&device.path(), dir, &options.guest, observer);
            }
        }
        self.image_must_not_be_written_to()?;
        observer.begin(&self.attach_step());
        let how = Binding {
            read_only: false,
            autoclear: true,
            direct_io: options.direct_io,
        };
        let device = self.bind(&self.open_image()?, how, observer)?;
        let result = self.check_and_mount(&device, dir, options, observer);
        // When the mount failed, this was its last user: gone before we say so.
        if result.is_err() {
            // The mount's own error says more than that somebody looks at the device.
            drop(device.close());
        }
        result
    }

    fn check_and_mount(
        &self,
        device: &LoopDevice,
        dir: &Path,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<()> {
        if options.check {
            self.check(&device.path(), observer)?;
        }
        self.mount_device(&device.path(), dir, &options.guest, observer)
    }

    /// Looks whether the filesystem on its device, which is not mounted, is sound.
    fn check(&self, device: &Path, observer: &dyn Observer) -> Result<()> {
        let fs = self.fs()?;
        observer.begin(&self.check_step(fs));
        fs.check(device).map_err(|error| match error {
            Error::Tool { said, command } => Error::refused(
                format!("cannot mount {}", self.place),
                format!("'{command}' is not content with its filesystem: {said}"),
            )
            .with_hint(format!(
                "'lovol attach {}', repair it on the device that this prints, then 'lovol detach' it; take a snapshot first",
                self.place.target()
            )),
            error => error,
        })
    }

    fn check_step(&self, fs: &Fs) -> Step {
        Step::CheckFilesystem {
            image: self.place.path(),
            fs: fs.to_string(),
        }
    }

    fn mount_device(
        &self,
        device: &Path,
        dir: &Path,
        options: &mount::Options,
        observer: &dyn Observer,
    ) -> Result<()> {
        let fs = self.fs()?;
        observer.begin(&self.mount_step(dir, fs, options.is_read_only()));
        if !options.is_read_only() && options.namespace.is_none() {
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
        let device = self.view_device(consistency, options.direct_io, observer)?;
        let fs = self.fs()?;
        observer.begin(&self.mount_step(dir, fs, true));
        let mut options = options.guest.clone();
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

    /// The device on which a snapshot can be viewed, gone with its last user.
    pub(super) fn view_device(
        &self,
        consistency: Consistency,
        direct_io: bool,
        observer: &dyn Observer,
    ) -> Result<LoopDevice> {
        let needs_own_uuid =
            self.record.fs == Fs::Btrfs && !crate::guest::btrfs::kernel_tells_twins_apart();
        if consistency == Consistency::Crash || needs_own_uuid {
            return self.throw_away_device(consistency, needs_own_uuid, direct_io, observer);
        }
        let how = Binding {
            read_only: true,
            autoclear: true,
            direct_io,
        };
        self.bind(&self.open_image()?, how, observer)
    }

    fn throw_away_device(
        &self,
        consistency: Consistency,
        needs_own_uuid: bool,
        direct_io: bool,
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
        let backing = beneath::reopen(&image.file, OFlags::RDWR).doing("open", "the view")?;
        let how = Binding {
            read_only: false,
            autoclear: true,
            direct_io,
        };
        self.bind(&backing, how, observer)
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
