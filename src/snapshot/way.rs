//! Finding the way to take an image: frozen, or by one single call.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Result, WRITE_BACK_GUEST};
use crate::guest::{has_given_up, proof};
use crate::plan::Step;
use crate::record::Consistency;
use crate::snapshot::Source;
use crate::sys::loopdev::{Attached, FileId};
use crate::sys::mountinfo::MountEntry;
use crate::sys::{holders, ioctl};
use crate::usage::Usage;

/// The way to take an image.
#[derive(Debug)]
pub enum Way {
    /// Inside a freeze of the filesystem mounted there.
    Frozen {
        /// Where it is mounted.
        dir: PathBuf,
        /// Its root, proven.
        root: OwnedFd,
        /// The device that it is on.
        device: Attached,
    },
    /// Nobody uses it: by one call, and it proves to be clean or not.
    Unused {
        /// The attached device, held exclusively, if it is attached at all.
        device: Option<File>,
    },
    /// By one call, whoever uses it: that was asked for.
    Crash {
        /// The number of the device that somebody may write to it by.
        device: Option<u32>,
    },
    /// By one call, of a snapshot, which never changes.
    Immutable(Consistency),
}

impl Way {
    /// The step that a plan shows.
    pub fn step(&self, source: &Source<'_>) -> Step {
        let (from, to) = source.paths.clone();
        match self {
            Self::Frozen { dir, .. } => Step::CloneFrozen {
                from,
                to,
                dir: dir.clone(),
            },
            Self::Unused { .. } | Self::Crash { .. } | Self::Immutable(_) => {
                Step::CloneAtOnce { from, to }
            }
        }
    }
}

/// Finds the way to take an image.
///
/// # Errors
/// When it is in use in a way that a freeze does not reach; `--crash` is then the only way.
pub fn choose(source: &Source<'_>, usage: &Usage, is_crash: bool) -> Result<Way> {
    if is_crash {
        let id = FileId::of(source.file).doing("look at", &source.name)?;
        let writable = usage.devices_of(id).find(|device| !device.read_only);
        return Ok(Way::Crash {
            device: writable.map(|device| device.number),
        });
    }
    let id = FileId::of(source.file).doing("look at", &source.name)?;
    let writable: Vec<&Attached> = usage
        .devices_of(id)
        .filter(|device| !device.read_only)
        .collect();
    match writable.as_slice() {
        [] => {
            nobody_must_write(source, id)?;
            Ok(Way::Unused { device: None })
        }
        [device] => choose_attached(source, usage, device),
        _ => {
            let devices: Vec<_> = writable
                .iter()
                .map(|d| d.path().display().to_string())
                .collect();
            Err(unreachable_by_freeze(
                source,
                &format!("it is attached more than once ({})", devices.join(", ")),
            ))
        }
    }
}

/// A virtual machine or a copy may write to the image without any loop device.
fn nobody_must_write(source: &Source<'_>, id: FileId) -> Result<()> {
    if ioctl::is_nobody_writing(source.file).doing("lease", &source.name)? {
        return Ok(());
    }
    let users = holders::of_file(id);
    let users = if users.is_empty() {
        "something in the kernel".to_owned()
    } else {
        users.join(", ")
    };
    Err(unreachable_by_freeze(
        source,
        &format!("its image is open for writing ({users})"),
    ))
}

fn choose_attached(source: &Source<'_>, usage: &Usage, device: &Attached) -> Result<Way> {
    let stacked = device.stacked_on_it();
    if !stacked.is_empty() {
        let why = format!("{} lies on {}", stacked.join(", "), device.path().display());
        return Err(unreachable_by_freeze(source, &why));
    }
    let mounts = usage.mounts_of(device);
    let Some(first) = mounts.first() else {
        return unmounted(source, device).map(|device| Way::Unused {
            device: Some(device),
        });
    };
    if let Some(option) = first.on_another_device() {
        let why = format!("a part of its filesystem is on another device ({option})");
        return Err(unreachable_by_freeze(source, &why));
    }
    if first.is_filesystem_read_only() {
        // One that has become so by itself has lost what it had not written yet.
        let root = open_one(&mounts, device).ok().map(|(_, root)| root);
        return match root.and_then(|root| has_given_up(root, &first.fstype)) {
            Some(why) => Err(Error::io(WRITE_BACK_GUEST, &source.name, why)),
            None => Ok(Way::Unused { device: None }),
        };
    }
    let (entry, root) = open_one(&mounts, device)?;
    Ok(Way::Frozen {
        dir: entry.dir.clone(),
        root,
        device: device.clone(),
    })
}

/// The first mount that can be opened: another filesystem may be mounted over one of them.
fn open_one<'m>(mounts: &[&'m MountEntry], device: &Attached) -> Result<(&'m MountEntry, OwnedFd)> {
    let mut first_error = None;
    for entry in mounts {
        match proof::open(entry, device) {
            Ok(root) => return Ok((entry, root)),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(Error::NotRoot))
}

/// Claims an attached device that is not mounted, so that nobody mounts it while it is taken.
fn unmounted(source: &Source<'_>, device: &Attached) -> Result<File> {
    let path = device.path();
    // A mounted filesystem holds its device exclusively, in whatever namespace it is mounted.
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    let claimed = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::BUSY) => {
            let why = format!(
                "{} is mounted in another mount namespace, or claimed by a program",
                path.display()
            );
            return Err(unreachable_by_freeze(source, &why));
        }
        Err(error) => return Err(Error::io("open", path, error.into())),
    };
    let users = holders::of_device_for_long(device.number);
    if !users.is_empty() {
        let why = format!(
            "{} is not mounted, but open ({})",
            path.display(),
            users.join(", ")
        );
        return Err(unreachable_by_freeze(source, &why));
    }
    // What was written through the device and closed may still be in its page cache.
    rustix::fs::fsync(&claimed).doing("write back", &path)?;
    Ok(claimed)
}

fn unreachable_by_freeze(source: &Source<'_>, why: &str) -> Error {
    Error::refused(format!("cannot snapshot {} consistently", source.name), why)
        .with_hint("--crash takes it as it is, like after a pulled plug")
}
