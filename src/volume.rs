//! Making volumes: new ones, and of images that exist already.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid};

use crate::claims::Claimed;
use crate::error::{Context, Error, Result};
use crate::guest::Fs;
use crate::image::{NewImage, attach_for_us};
use crate::index::Volume;
use crate::name::Name;
use crate::plan::{Observer, Step};
use crate::pool::{Edit, Place, Pool, edit, lock};
use crate::record::{Record, XATTR};
use crate::size::Size;
use crate::snapshot::{self, Source};
use crate::space::{Claim, must_allow, warn_if_larger};
use crate::sys::beneath;
use crate::sys::copy;
use crate::sys::ioctl;
use crate::sys::loopdev::FileId;
use crate::usage::Usage;

/// A volume to be made.
#[derive(Clone, Debug)]
pub struct New {
    /// Its name.
    pub name: Name,
    /// Its size, a whole number of MiB.
    pub size: Size,
    /// The filesystem to make in it.
    pub fs: Fs,
    /// The filesystem's label.
    pub label: Option<String>,
    /// More arguments for its mkfs.
    pub mkfs_options: Vec<String>,
}

impl New {
    /// Refuses what cannot work, before anything is made.
    pub fn check(&self) -> Result<()> {
        let least = self.fs.least_size();
        if self.size < least {
            return Err(Error::usage(
                format!("{} is too small for {}", self.size, self.fs),
                format!(
                    "the least is {least}: lovol create {} {least} --fs {}",
                    self.name, self.fs
                ),
            ));
        }
        if let Some(label) = &self.label {
            let longest = self.fs.longest_label();
            if label.len() > longest {
                return Err(Error::usage(
                    format!("the label has {} bytes", label.len()),
                    format!("a label of {} has at most {longest}", self.fs),
                ));
            }
        }
        self.fs.can_be_made()
    }

    /// What [`New::make`] does.
    pub fn plan(&self) -> Vec<Step> {
        let image = Place::volume(&self.name).path();
        let mut steps = vec![Step::MakeImage {
            image: image.clone(),
            size: self.size,
        }];
        if self.fs != Fs::None {
            steps.push(Step::MakeFilesystem {
                image,
                fs: self.fs.to_string(),
            });
        }
        steps
    }

    /// Makes it.
    pub fn make(&self, pool: &Pool, observer: &dyn Observer) -> Result<Record> {
        let place = Place::volume(&self.name);
        let claim = Claim::Volume(self.size.0);
        let _claimed = must_allow(pool, &cannot_make(&self.name), claim)?;
        warn_if_larger(pool, &self.name, self.size.0, observer)?;
        let image = NewImage::for_place(pool, &place)?;
        let mut record = Record::new(self.size.0, self.fs.clone());
        for step in self.plan() {
            observer.begin(&step);
            match step {
                Step::MakeImage { size, .. } => image.set_size(size.0)?,
                _ => self.make_filesystem(&image, &mut record)?,
            }
        }
        add(pool, &self.name, image, &record)?;
        Ok(record)
    }

    fn make_filesystem(&self, image: &NewImage, record: &mut Record) -> Result<()> {
        let device = image.attach(false, None)?;
        self.fs
            .make(&device.path(), self.label.as_deref(), &self.mkfs_options)?;
        describe_guest(record, &device.path())?;
        device.close()
    }
}

/// Fills in what is known of the guest by its content.
fn describe_guest(record: &mut Record, device: &Path) -> Result<()> {
    let (fs, signature) = Fs::recognise(device)?;
    record.fs = fs;
    record.sector = signature.small_sector();
    record.fs_uuid = signature.uuid;
    record.label = signature.label;
    Ok(())
}

/// The record of a volume, with the guest that somebody may have made in it since: a volume of
/// `--fs none` is attached, formatted by hand, and from then on one like the others.
pub fn current_record(file: &File, record: &Record) -> Result<Record> {
    let mut record = record.clone();
    if record.fs == Fs::None {
        describe_guest(&mut record, Path::new(&beneath::fd_path_for_tools(file)))?;
    }
    Ok(record)
}

/// Saves what [`current_record`] has found of the guest, and nothing else of `found`: properties may
/// have changed since that was read, as setting them does not wait for the volume.
pub fn remember(edit: &mut Edit<'_>, name: &Name, file: &File, found: &Record) -> Result<()> {
    let volume = edit.index.volume_mut(name)?;
    if volume.record.fs != Fs::None || found.fs == Fs::None {
        return Ok(());
    }
    let record = Record {
        fs: found.fs.clone(),
        sector: found.sector,
        fs_uuid: found.fs_uuid.clone(),
        label: found.label.clone(),
        ..volume.record.clone()
    };
    record
        .write(file)
        .doing("write the record of", name.as_str())?;
    volume.record = record;
    Ok(())
}

/// Fails when a volume has the name, or something lies where its image is to be.
pub fn name_must_be_free(pool: &Pool, name: &Name) -> Result<()> {
    pool.index()?.must_not_have_volume(name)?;
    edit::must_be_free(pool, &Place::volume(name).path())
}

/// Names a finished image as a volume: file and record first, the index last.
pub fn add(pool: &Pool, name: &Name, image: NewImage, record: &Record) -> Result<()> {
    let mut edit = Edit::begin(pool)?;
    edit.index.must_not_have_volume(name)?;
    let named = image.publish(pool, &Place::volume(name), record)?;
    edit.index
        .volumes
        .insert(name.clone(), Volume::new(record.clone()));
    edit.save()?;
    named.keep();
    Ok(())
}

/// An image outside the pool that is to become a volume.
#[derive(Debug)]
pub struct Adoption {
    name: Name,
    path: PathBuf,
    /// Where it lies, whatever becomes of the path.
    dir: OwnedFd,
    file: File,
    fs: Fs,
    sector: Option<u32>,
}

impl Adoption {
    /// Opens the image.
    pub fn open(pool: &Pool, name: &Name, path: &Path, is_move: bool) -> Result<Self> {
        name_must_be_free(pool, name)?;
        let path = path.canonicalize().doing("find", path)?;
        // Opening a FIFO would wait; what is to be moved is held alone by this one descriptor.
        let access = if is_move {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
        let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = open_dir_of(&path)?;
        let file = rustix::fs::openat(&dir, name_in_dir(&path), flags, Mode::empty());
        let file = File::from(file.doing("open", &path)?);
        let metadata = file.metadata().doing("look at", &path)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(Error::refused(
                format!("cannot take {}", path.display()),
                "it is not an image file with something in it",
            ));
        }
        if path.parent().is_some_and(is_in_a_pool) {
            return Err(Error::refused(
                format!("cannot take {}", path.display()),
                "it lies in a pool",
            )
            .with_hint(
                "'lovol clone' clones a volume; 'lovol check' says what the index does not name",
            ));
        }
        let (fs, signature) = Fs::recognise(Path::new(&beneath::fd_path_for_tools(&file)))?;
        Ok(Self {
            name: name.clone(),
            path,
            dir,
            file,
            fs,
            sector: signature.small_sector(),
        })
    }

    fn source(&self) -> Source<'_> {
        Source {
            name: self.path.display().to_string(),
            file: &self.file,
            fs: &self.fs,
            sector: self.sector,
            paths: (self.path.clone(), Place::volume(&self.name).path()),
        }
    }

    /// What [`Adoption::clone_in`] does.
    pub fn plan(&self, is_crash: bool) -> Result<Vec<Step>> {
        let source = self.source();
        Ok(vec![
            snapshot::choose(&source, &Usage::look()?, is_crash)?.step(&source),
        ])
    }

    /// What [`Adoption::copy_in`] does.
    pub fn copy_step(&self) -> Step {
        Step::Copy {
            from: self.path.clone(),
            to: Place::volume(&self.name).path(),
        }
    }

    /// What [`Adoption::move_in`] does.
    pub fn move_step(&self) -> Step {
        Step::Move {
            from: self.path.clone(),
            to: Place::volume(&self.name).path(),
        }
    }

    /// Makes the volume a reflink of the image, which is frozen for it if it is mounted.
    pub fn clone_in(&self, pool: &Pool, is_crash: bool, observer: &dyn Observer) -> Result<Record> {
        let source = self.source();
        let _claimed = self.must_be_allowed(pool)?;
        let way = snapshot::choose(&source, &Usage::look()?, is_crash)?;
        let image = NewImage::for_place(pool, &Place::volume(&self.name))?;
        let taken = snapshot::take(&source, &image, &way, pool.wait, observer)?;
        self.add(pool, image, taken.size)
    }

    /// Makes the volume a copy of the image, which nobody may use meanwhile: for one on another
    /// filesystem.
    pub fn copy_in(&self, pool: &Pool, observer: &dyn Observer) -> Result<Record> {
        let shown = self.path.display().to_string();
        let metadata = self.file.metadata().doing("look at", &self.path)?;
        Usage::look()?.must_not_use(&shown, FileId::from(&metadata), None)?;
        lock::lease(&self.file, &shown)?;
        let _claimed = self.must_be_allowed(pool)?;
        let image = NewImage::for_place(pool, &Place::volume(&self.name))?;
        let step = self.copy_step();
        observer.begin(&step);
        copy::data(&self.file, &image.file, metadata.len(), |done| {
            observer.progress(&format!("copying {shown}"), done, metadata.len());
        })
        .doing("copy", &self.path)?;
        if !ioctl::has_write_lease(&self.file) {
            return Err(Error::refused(
                format!("cannot copy {shown}"),
                "something has opened it meanwhile, and may have written to it",
            ));
        }
        self.add(pool, image, metadata.len())
    }

    fn must_be_allowed(&self, pool: &Pool) -> Result<Claimed> {
        let size = self.file.metadata().doing("look at", &self.path)?.len();
        must_allow(pool, &cannot_make(&self.name), Claim::Volume(size))
    }

    /// Makes a volume of what was taken of the image.
    fn add(&self, pool: &Pool, image: NewImage, size: u64) -> Result<Record> {
        // Direct I/O needs whole sectors; a filesystem does not mind a longer device.
        let size = size.next_multiple_of(4096);
        image.set_size(size)?;
        let mut record = Record::new(size, self.fs.clone());
        let device = image.attach(true, None)?;
        describe_guest(&mut record, &device.path())?;
        device.close()?;
        add(pool, &self.name, image, &record)?;
        Ok(record)
    }

    /// Moves the image itself into the pool, or changes nothing.
    pub fn move_in(&self, pool: &Pool, observer: &dyn Observer) -> Result<Record> {
        let shown = self.path.display().to_string();
        let metadata = self.file.metadata().doing("look at", &self.path)?;
        let id = FileId::from(&metadata);
        if id.device != pool.device() {
            return Err(Error::refused(
                format!("cannot move {shown}"),
                "it is not on the pool's filesystem",
            )
            .with_hint("--copy in the place of --move copies it"));
        }
        if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
            return Err(Error::refused(
                format!("cannot move {shown}"),
                "it has a second name (a hard link)",
            ));
        }
        Usage::look()?.must_not_use(&shown, id, None)?;
        let has = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
        let size = metadata.len();
        let what = cannot_make(&self.name);
        let _claimed = must_allow(pool, &what, Claim::Moved { size, has })?;
        let mut record = Record::new(metadata.len(), self.fs.clone());
        let device = attach_for_us(&self.file, true, None)?;
        describe_guest(&mut record, &device.path())?;
        device.close()?;
        lock::lease(&self.file, &shown)?;
        Moving {
            adoption: self,
            pool,
            file: &self.file,
            id,
        }
        .carry_out(&mut record, observer)?;
        Ok(record)
    }
}

struct Moving<'a> {
    adoption: &'a Adoption,
    pool: &'a Pool,
    file: &'a File,
    id: FileId,
}

impl Moving<'_> {
    fn carry_out(&self, record: &mut Record, observer: &dyn Observer) -> Result<()> {
        let Adoption { name, path, .. } = self.adoption;
        let mut edit = Edit::begin(self.pool)?;
        edit.index.must_not_have_volume(name)?;
        edit::must_be_free(self.pool, &Place::volume(name).path())?;
        observer.begin(&self.adoption.move_step());
        let before = rustix::fs::fstat(self.file).doing("look at", path)?;
        let result = self.rename_and_save(record, &mut edit);
        if result.is_err() {
            self.take_back(&before);
        }
        result
    }

    fn rename_and_save(&self, record: &mut Record, edit: &mut Edit<'_>) -> Result<()> {
        let Adoption {
            name, path, dir, ..
        } = self.adoption;
        record.size = record.size.next_multiple_of(4096);
        self.file.set_len(record.size).doing("size", path)?;
        record.write(self.file).doing("write the record of", path)?;
        let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
        rustix::fs::fchown(self.file, Some(root), Some(group)).doing("own", path)?;
        rustix::fs::fchmod(self.file, Mode::from_raw_mode(0o600)).doing("set the mode of", path)?;
        rustix::fs::fsync(self.file).doing("write back", path)?;
        let volumes = beneath::open_dir(self.pool.dir(), "volumes").doing("open", "volumes")?;
        let file_name = format!("{name}.img");
        let (from, flags) = (name_in_dir(path), RenameFlags::NOREPLACE);
        rustix::fs::renameat_with(dir, from, &volumes, &file_name, flags).doing("move", path)?;
        if self.pool.image_id(&Place::volume(name))? != self.id {
            self.move_back(&volumes);
            return Err(Error::refused(
                format!("cannot move {}", path.display()),
                "another file took its place meanwhile",
            ));
        }
        beneath::sync(&volumes).doing("write back", "volumes")?;
        edit.index
            .volumes
            .insert(name.clone(), Volume::new(record.clone()));
        edit.save()
    }

    /// What was moved goes back to where it was.
    fn move_back(&self, volumes: &OwnedFd) {
        let Adoption {
            name, path, dir, ..
        } = self.adoption;
        let (file_name, to) = (format!("{name}.img"), name_in_dir(path));
        let flags = RenameFlags::NOREPLACE;
        let _ = rustix::fs::renameat_with(volumes, file_name, dir, to, flags);
    }

    /// Gives the file its old name, owner, mode and size back.
    fn take_back(&self, before: &rustix::fs::Stat) {
        let Adoption { name, .. } = self.adoption;
        if let Ok(volumes) = beneath::open_dir(self.pool.dir(), "volumes") {
            if self
                .pool
                .image_id(&Place::volume(name))
                .is_ok_and(|id| id == self.id)
            {
                self.move_back(&volumes);
            }
        }
        drop(
            self.file
                .set_len(u64::try_from(before.st_size).unwrap_or(0)),
        );
        let _ = rustix::fs::fremovexattr(self.file, XATTR);
        let _ = rustix::fs::fchown(
            self.file,
            Some(Uid::from_raw(before.st_uid)),
            Some(Gid::from_raw(before.st_gid)),
        );
        let _ = rustix::fs::fchmod(self.file, Mode::from_raw_mode(before.st_mode & 0o7777));
    }
}

/// The directory that a canonical path's file lies in: such a path leads through no symlink, and one
/// that has come into it meanwhile leads to something else.
fn open_dir_of(path: &Path) -> Result<OwnedFd> {
    let dir = path.parent().unwrap_or(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, dir, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .doing("open", dir)
}

/// What a canonical path's file is called there; only `/` has no name.
fn name_in_dir(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(OsStr::new("."))
}

fn cannot_make(name: &Name) -> String {
    format!("cannot make volume {name}")
}

/// Whether a directory lies in any pool: an ancestor of it carries a pool's settings.
#[must_use]
pub fn is_in_a_pool(dir: &Path) -> bool {
    dir.ancestors().any(|ancestor| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, ancestor, flags, Mode::empty());
        let has_settings = |fd| matches!(crate::record::read_xattr(fd), Ok(Some(_)));
        opened.is_ok_and(has_settings)
    })
}
