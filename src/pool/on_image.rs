//! A pool on an XFS image of its own, for hosts without reflinks.
//!
//! ```text
//! /var/lib/lovol.img     the image, attached with direct I/O
//! /var/lib/lovol/        where it is mounted; beneath, an immutable marker in an immutable directory
//! ```

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::fstab::escape_path;
use crate::plan::{Observer, Step};
use crate::pool::abilities::Abilities;
use crate::pool::init::{MARKER, MadeDirs, make_in, must_be_empty, open_dir};
use crate::pool::unfinished::{self, Unfinished};
use crate::size::Size;
use crate::sys::loopdev::{self, FileId, LoopDevice, Options};
use crate::sys::mount;
use crate::sys::signals::Blocked;
use crate::sys::tool::Tool;
use crate::sys::{beneath, ioctl};
use crate::usage::Usage;

/// `FS_IMMUTABLE_FL` (uapi/linux/fs.h): `chattr +i`.
const IMMUTABLE: u32 = 0x10;

/// Below this an XFS of its own leaves no room for any volume.
pub const USEFUL: Size = Size(512 << 20);

const MKFS: Tool = Tool {
    program: "mkfs.xfs",
    package: "xfsprogs",
};
const GROW: Tool = Tool {
    program: "xfs_growfs",
    package: "xfsprogs",
};

/// A pool on an image of its own.
#[derive(Clone, Debug)]
pub struct OnImage {
    /// Where it is mounted.
    pub dir: PathBuf,
    /// The image's size.
    pub size: Size,
    /// Leave it sparse.
    pub sparse: bool,
}

impl OnImage {
    /// `DIR.img`
    pub fn image(&self) -> PathBuf {
        image_beside(&self.dir)
    }

    /// What [`OnImage::make`] does.
    pub fn plan(&self) -> Vec<Step> {
        let image = self.image();
        vec![
            Step::MakePoolImage {
                image: image.clone(),
                size: self.size,
                sparse: self.sparse,
            },
            Step::Mount {
                image,
                dir: self.dir.clone(),
                fs: "xfs".into(),
                read_only: false,
            },
            Step::MakePool {
                dir: self.dir.clone(),
            },
        ]
    }

    /// Refuses what cannot work, before anything is made.
    pub fn check(&self) -> Result<()> {
        if self.size < USEFUL {
            return Err(Error::usage(
                format!("{} is too small for a pool", self.size),
                format!("the least is {USEFUL}"),
            ));
        }
        MKFS.find()?;
        if Unfinished::find(&self.image()).is_some() {
            // Taken away by `make`.
            return Ok(());
        }
        if self.dir.exists() {
            must_be_empty(&self.dir)?;
        }
        if self.image().symlink_metadata().is_ok() {
            return Err(Error::Exists {
                what: self.image().display().to_string(),
                hint: Some(format!(
                    "if it is that pool's, 'lovol init --loop +{}' makes it larger",
                    self.size
                )),
            });
        }
        Ok(())
    }

    /// Makes the image and its XFS, mounts it, and makes a pool in it; or leaves nothing.
    pub fn make(&self, observer: &dyn Observer) -> Result<Abilities> {
        let image_path = self.image();
        if let Some(unfinished) = Unfinished::find(&image_path) {
            unfinished.remove(&self.dir)?;
        }
        self.check()?;
        let steps = self.plan();
        observer.begin(&steps[0]);
        let made = MadeDirs::make(&self.dir)?;
        let parent = open_dir(self.dir.parent().unwrap_or(Path::new("/")))?;
        let file = beneath::unnamed(&parent).doing("make", &image_path)?;
        self.allocate(&file)?;
        make_filesystem(&file)?;
        rustix::fs::fsync(&file).doing("write back", &image_path)?;
        unfinished::note(&file).doing("note the making of", &image_path)?;
        // Named before it is used: a pool on a file without a name would be gone with its mount.
        let name = image_path.file_name().map_or(Path::new(""), Path::new);
        beneath::link(&file, &parent, name).doing("name", &image_path)?;
        let result = beneath::sync(&parent)
            .doing("write back", &image_path)
            .and_then(|()| self.attach_and_fill(&file, &steps[1], observer));
        if result.is_ok() {
            made.keep();
        } else {
            let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
        }
        result
    }

    /// By its name: what `losetup` and `df` say of the device is what it was attached by.
    fn attach_and_fill(
        &self,
        image: &File,
        step: &Step,
        observer: &dyn Observer,
    ) -> Result<Abilities> {
        let path = self.image();
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let named = File::from(rustix::fs::open(&path, flags, Mode::empty()).doing("open", &path)?);
        if FileId::of(&named).doing("look at", &path)?
            != FileId::of(image).doing("look at", &path)?
        {
            return Err(Error::refused(
                format!("cannot use {}", path.display()),
                "another file took its place meanwhile",
            ));
        }
        let device = attach(&named)?;
        let result = self.mount_and_fill(&device.path(), image, step, observer);
        if result.is_err() {
            drop(device.close());
        }
        result
    }

    fn mount_and_fill(
        &self,
        device: &Path,
        image: &File,
        step: &Step,
        observer: &dyn Observer,
    ) -> Result<Abilities> {
        let marker = Marker::put(&self.dir, &self.image())?;
        observer.begin(step);
        mount::mount(device, &self.dir, "xfs", &mount::Options::default())?;
        let result = make_in(&self.dir, observer).and_then(|abilities| {
            unfinished::is_finished(image).doing("finish", self.image())?;
            Ok(abilities)
        });
        if result.is_ok() {
            marker.keep();
        } else {
            drop(mount::unmount(&self.dir));
        }
        result
    }

    fn allocate(&self, file: &File) -> Result<()> {
        let image = self.image();
        if self.sparse {
            file.set_len(self.size.0).doing("size", image)
        } else {
            rustix::fs::fallocate(file, FallocateFlags::empty(), 0, self.size.0)
                .doing("allocate", image)
        }
    }
}

fn make_filesystem(image: &File) -> Result<()> {
    let backing = beneath::reopen(image, OFlags::RDWR).doing("open", "the pool's image")?;
    let device = attach(&backing)?;
    let path = device.path();
    let words = ["-q", "-K", "-m", "reflink=1", "-b", "size=4096"].map(std::ffi::OsStr::new);
    MKFS.run(&[&words[..], &[path.as_os_str()]].concat(), &[0])?;
    device.close()
}

pub(super) fn attach(file: &File) -> Result<LoopDevice> {
    LoopDevice::attach(
        file,
        Options {
            read_only: false,
            autoclear: true,
            direct_io: true,
            sector: None,
            reference: "lovol-pool",
        },
    )
}

/// Where the image of a pool at this place is, if it is on one of its own.
pub fn image_beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".img");
    dir.with_file_name(name)
}

/// The line that mounts the pool at boot.
///
/// What is allocated at once would be given back by the weekly fstrim (fstrim(8),
/// `X-fstrim.notrim`), and the filesystem beneath could be full when the pool needs it again.
pub fn fstab_line(dir: &Path, is_sparse: bool) -> String {
    format!(
        "{} {} xfs loop,nofail{} 0 0",
        escape_path(&image_beside(dir)),
        escape_path(dir),
        if is_sparse { "" } else { ",X-fstrim.notrim" }
    )
}

/// Whether that image is what is mounted there.
pub fn is_mounted(dir: &Path) -> bool {
    own_image(dir).is_ok()
}

/// Makes a pool's own image larger by `by`, and the filesystem in it.
///
/// # Errors
/// The kernel's or `xfs_growfs`'s; then the image is as large as before.
pub fn grow(dir: &Path, by: Size, observer: &dyn Observer) -> Result<Size> {
    let (file, id) = own_image(dir)?;
    let image = image_beside(dir);
    must_be_alone(&file, &image)?;
    let old = file.metadata().doing("look at", &image)?;
    let size = Size(old.len() + by.0);
    observer.begin(&Step::GrowPoolImage {
        image: image.clone(),
        size,
    });
    // ^C would leave an image that is larger than its filesystem.
    let _signals = Blocked::all().doing("block", "signals")?;
    let before = blocks_of(dir)?;
    let grown = grow_image(&file, &old, size).doing("size", &image);
    let grown = grown.and_then(|()| {
        see_size(id)?;
        GROW.run_undisturbed(&["-d".as_ref(), dir.as_os_str()], &[0])
    });
    let Err(error) = grown else { return Ok(size) };
    let taken_back = blocks_of(dir).and_then(|now| {
        if now != before {
            // It cannot be, and it is what was asked for.
            return Ok(false);
        }
        file.set_len(old.len()).doing("size", &image)?;
        see_size(id).map(|()| true)
    });
    match taken_back {
        Ok(false) => Ok(size),
        Ok(true) => Err(error),
        Err(why) => Err(Error::Partly {
            done: format!("{} may be larger than its filesystem", image.display()),
            why: Box::new(why),
        }),
    }
}

/// Fails while another lovol makes it larger.
fn must_be_alone(file: &File, image: &Path) -> Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Error::InUse {
            what: image.display().to_string(),
            by: vec!["another lovol, which makes it larger".into()],
            hint: Some("run it again when that is done".into()),
        }),
        result => result.doing("lock", image),
    }
}

/// Allocated as it was: a pool that was promised its space keeps that promise.
fn grow_image(file: &File, old: &Metadata, size: Size) -> io::Result<()> {
    if old.blocks() * 512 >= old.len() {
        let by = size.0 - old.len();
        rustix::fs::fallocate(file, FallocateFlags::empty(), old.len(), by)?;
    } else {
        file.set_len(size.0)?;
    }
    Ok(rustix::fs::fsync(file)?)
}

/// Lets its devices see how large an image is now.
fn see_size(image: FileId) -> Result<()> {
    let usage = Usage::look()?;
    usage.devices_of(image).try_for_each(loopdev::refresh_size)
}

/// How large the filesystem at `dir` is.
fn blocks_of(dir: &Path) -> Result<u64> {
    Ok(rustix::fs::statvfs(dir).doing("look at", dir)?.f_blocks)
}

/// The size that a pool's own image would have after growing.
pub fn grown_size(dir: &Path, by: Size) -> Result<(PathBuf, Size)> {
    let (file, _) = own_image(dir)?;
    let length = file.metadata().doing("look at", dir)?.len();
    Ok((image_beside(dir), Size(length + by.0)))
}

/// The pool's own image, which must be what is mounted at `dir`.
fn own_image(dir: &Path) -> Result<(File, FileId)> {
    let image = image_beside(dir);
    let refuse =
        |why: String| Error::refused(format!("cannot grow the pool {}", dir.display()), why);
    let file = File::options()
        .read(true)
        .write(true)
        .open(&image)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refuse(format!(
                "it is on no image of its own: there is no {}",
                image.display()
            )),
            _ => Error::io("open", &image, error),
        })?;
    let id = FileId::of(&file).doing("look at", &image)?;
    let usage = Usage::look()?;
    let is_mounted = usage
        .devices_of(id)
        .any(|device| usage.mounts_of(device).iter().any(|mount| mount.dir == dir));
    if is_mounted {
        return Ok((file, id));
    }
    Err(refuse(format!(
        "{} is not what is mounted there",
        image.display()
    )))
}

/// The marker beneath a mount point: while the pool is not mounted, nothing can be made in its
/// place, and every verb can say why it refuses.
struct Marker {
    dir: OwnedFd,
    is_kept: bool,
}

impl Marker {
    fn put(dir: &Path, image: &Path) -> Result<Self> {
        let fd = open_dir(dir)?;
        let marker = Self {
            dir: fd,
            is_kept: false,
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&marker.dir, MARKER, flags, Mode::from_raw_mode(0o644))
            .doing("make the marker in", dir)?;
        let text = format!(
            "{}\nThis is the mount point of a lovol pool, and the pool is not mounted.\n\
             If there is to be no pool any more: chattr -i {1} {1}/{MARKER}\n",
            image.display(),
            dir.display()
        );
        let mut file = File::from(file);
        file.write_all(text.as_bytes())
            .doing("write the marker in", dir)?;
        rustix::fs::fsync(&file).doing("write the marker in", dir)?;
        // Where the filesystem has no such flag (tmpfs), the marker alone must do.
        drop(set_immutable(&file, true));
        drop(set_immutable(&marker.dir, true));
        Ok(marker)
    }

    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        remove_marker(&self.dir);
    }
}

/// Removes the marker, if there is one, and what protects it.
pub(super) fn remove_marker(dir: &OwnedFd) {
    drop(set_immutable(dir, false));
    if let Ok(file) = beneath::open(dir, MARKER, OFlags::RDONLY) {
        drop(set_immutable(&file, false));
    }
    drop(beneath::unlink(dir, Path::new(MARKER)));
}

fn set_immutable(file: impl std::os::fd::AsFd, on: bool) -> io::Result<()> {
    let flags = ioctl::inode_flags(&file)?;
    ioctl::set_inode_flags(
        &file,
        if on {
            flags | IMMUTABLE
        } else {
            flags & !IMMUTABLE
        },
    )
}
