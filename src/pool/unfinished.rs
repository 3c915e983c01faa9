//! What a killed `init --loop` has left: found by a note on the image, and taken away by the next.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, XattrFlags};

use crate::error::{Context, Error, Result};
use crate::pool::init::open_dir;
use crate::pool::on_image::{attach, remove_marker};
use crate::record::read_xattr;
use crate::sys::beneath;
use crate::sys::loopdev::{self, FileId};
use crate::sys::mount::{self, Detached};
use crate::usage::Usage;

/// On the image from before it has its name until there is a pool in it.
const NOTE: &str = "user.lovol.unfinished";

/// Notes that the image belongs to an `init` that is under way, and whose lock it holds.
///
/// Where the filesystem has no xattrs, what a kill leaves must be taken away by hand.
pub(super) fn note(image: &File) -> io::Result<()> {
    rustix::fs::flock(image, FlockOperation::NonBlockingLockExclusive)?;
    match rustix::fs::fsetxattr(image, NOTE, b"", XattrFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// There is a pool in it.
pub(super) fn is_finished(image: &File) -> io::Result<()> {
    match rustix::fs::fremovexattr(image, NOTE) {
        Ok(()) | Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The image of an `init` that was killed.
pub(super) struct Unfinished {
    image: PathBuf,
    /// Holds its lock: of several who find it, one takes it away.
    file: File,
}

impl Unfinished {
    /// Looks whether there is one.
    pub(super) fn find(image: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(CWD, image, flags, Mode::empty()).ok()?);
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.uid() != 0 {
            return None;
        }
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        rustix::fs::fgetxattr(&file, NOTE, &mut [0_u8; 0][..]).ok()?;
        let image = image.to_owned();
        Some(Self { image, file })
    }

    /// Unmounts and removes it, with the marker beneath; but not what is in use elsewhere.
    pub(super) fn remove(self, dir: &Path) -> Result<()> {
        let id = FileId::of(&self.file).doing("look at", &self.image)?;
        let usage = Usage::look()?;
        let devices: Vec<_> = usage.devices_of(id).collect();
        let mut mounts = devices.iter().flat_map(|device| usage.mounts_of(device));
        if mounts.any(|mount| mount.dir == dir) {
            let settings = read_xattr(open_dir(dir)?);
            if settings.doing("look at", dir)?.is_some() {
                // Killed behind its last step: it is whole.
                return is_finished(&self.file).doing("finish", &self.image);
            }
            mount::unmount(dir)?;
        }
        for device in devices.iter().filter(|device| device.autoclear) {
            loopdev::wait_until_gone(device)?;
        }
        Usage::look()?.must_not_use(&self.image.display().to_string(), id, None)?;
        if self.has_pool()? {
            // Killed behind its last step, and not mounted now.
            is_finished(&self.file).doing("finish", &self.image)?;
            return Err(Error::PoolNotMounted {
                dir: dir.to_owned(),
                image: self.image,
            });
        }
        if dir.exists() {
            remove_marker(&open_dir(dir)?);
        }
        rustix::fs::unlinkat(CWD, &self.image, AtFlags::empty())
            .map_err(|error| Error::io("remove", &self.image, error.into()))
    }

    /// Whether there is a whole pool in it, which is mounted nowhere: it may have been used for long.
    fn has_pool(&self) -> Result<bool> {
        self.look_for_pool().map_err(|why| {
            let image = self.image.display();
            Error::refused(
                format!("cannot tell whether there is a pool in {image}"),
                why.to_string(),
            )
            .with_hint(format!("'rm {image}' if you know that there is none"))
        })
    }

    fn look_for_pool(&self) -> Result<bool> {
        let image = beneath::reopen(&self.file, OFlags::RDWR).doing("open", &self.image)?;
        let device = attach(&image)?;
        // Read-only, but the log replays: the settings may be in nothing else yet.
        let mounted = Detached::new(&device.path(), "xfs", &["ro"])?;
        let root = mounted.open_root().doing("look at", &self.image)?;
        let settings = read_xattr(&root).doing("look at", &self.image)?;
        drop((root, mounted));
        device.close()?;
        Ok(settings.is_some())
    }
}
