//! Taking an image at one instant: what `snapshot`, `clone` and `create --from` share, for images
//! in a pool and outside.
//!
//! ```text
//! choose   which way: frozen, or by one single call
//! take     pre-clone, unfrozen, in small ranges      ~60 us an extent, nobody waits for long
//!          syncfs; freeze                             FIFREEZE
//!          clone again over the same file             ~1 us an extent: what is shared is skipped
//!          thaw; check; fsync                         FITHAW
//! ```
//! Cloned in ranges without a freeze, an image is torn (ranges of different moments): so what is
//! taken unfrozen is one single call over the whole file, which is one instant (the kernel holds
//! the image's lock for all of it).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::guest::{Fs, proof};
use crate::image::{NewImage, attach_for_us};
use crate::plan::{Observer, Step};
use crate::record::Consistency;
use crate::sys::freeze::{Deadline, while_frozen};
use crate::sys::guardian::Ward;
use crate::sys::loopdev::{Attached, FileId};
use crate::sys::marker::{Marker, Note};
use crate::sys::mountinfo::MountEntry;
use crate::sys::{holders, ioctl, reflink};
use crate::usage::Usage;

/// The longest time that a guest may be frozen.
pub const FREEZE_LIMIT: Duration = Duration::from_secs(10);

/// Passes of the pre-clone at most: a writer that never rests must not keep it going for ever.
const PASSES: u32 = 4;

/// A pass this short leaves little for the freeze.
const SHORT_PASS: Duration = Duration::from_millis(20);

/// An image to be taken.
#[derive(Debug)]
pub struct Source<'a> {
    /// What messages call it, such as `home`.
    pub name: String,
    /// The image, open for reading.
    pub file: &'a File,
    /// What is in it.
    pub fs: &'a Fs,
    /// The sectors that it needs, if smaller than 4096 bytes.
    pub sector: Option<u32>,
    /// Where it is and where its clone is to be, for the plan.
    pub paths: (PathBuf, PathBuf),
}

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
    Crash,
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
            Self::Unused { .. } | Self::Crash | Self::Immutable(_) => {
                Step::CloneAtOnce { from, to }
            }
        }
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The instant.
    pub at: Timestamp,
    /// How consistent the guest is.
    pub consistency: Consistency,
    /// How long it was frozen.
    pub frozen: Option<Duration>,
    /// How many extents the clone has.
    pub extents: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
}

/// Finds the way to take an image.
///
/// # Errors
/// When it is in use in a way that a freeze does not reach; `--crash` is then the only way.
pub fn choose(source: &Source<'_>, usage: &Usage, is_crash: bool) -> Result<Way> {
    if is_crash {
        return Ok(Way::Crash);
    }
    let id = FileId::of(source.file).doing("look at", &source.name)?;
    let writable: Vec<&Attached> = usage
        .devices_of(id)
        .filter(|device| !device.read_only)
        .collect();
    match writable.as_slice() {
        [] => Ok(Way::Unused { device: None }),
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
    if first.is_filesystem_read_only() {
        return Ok(Way::Unused { device: None });
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
    let users = holders::of_device(device.number);
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

/// Takes the image into `destination`, which must be empty, and makes that durable.
pub fn take(
    source: &Source<'_>,
    destination: &NewImage,
    way: &Way,
    patience: Duration,
    observer: &dyn Observer,
) -> Result<Taken> {
    observer.begin(&way.step(source));
    let size = source.file.metadata().doing("look at", &source.name)?.len();
    let taking = Taking {
        source,
        destination: &destination.file,
        size,
        observer,
    };
    let (at, frozen, consistency) = match way {
        Way::Frozen { root, device, .. } => {
            let frozen = taking.frozen(root, device, patience)?;
            (frozen.at, Some(frozen.time), Consistency::Frozen)
        }
        Way::Unused { .. } => {
            let at = taking.at_once()?;
            (at, None, taking.prove()?)
        }
        Way::Crash => {
            taking.pre_clone()?;
            (taking.at_once()?, None, Consistency::Crash)
        }
        Way::Immutable(consistency) => (taking.at_once()?, None, *consistency),
    };
    taking.verify()?;
    let extents = ioctl::extent_count(&destination.file).ok();
    Ok(Taken {
        at: crate::time::to_microseconds(at),
        consistency,
        frozen,
        extents,
        size,
    })
}

struct Taking<'a> {
    source: &'a Source<'a>,
    destination: &'a File,
    size: u64,
    observer: &'a dyn Observer,
}

impl Taking<'_> {
    fn frozen(
        &self,
        root: &OwnedFd,
        device: &Attached,
        patience: Duration,
    ) -> Result<crate::sys::freeze::Frozen> {
        // What the guest has not written yet would be written, and cloned, inside the freeze.
        self.sync(root)?;
        self.pre_clone()?;
        self.sync(root)?;
        let note = Note {
            pid: std::process::id(),
            loop_number: device.number,
            device: device.file.device,
            inode: device.file.inode,
            fstype: self.source.fs.to_string(),
            name: self.source.name.clone(),
        };
        let ward = Ward {
            root: root.try_clone().doing("open", &self.source.name)?,
            marker: Marker::create(&note)?,
        };
        let wards = [ward];
        let result = while_frozen(
            &self.source.name,
            &wards,
            FREEZE_LIMIT,
            patience,
            |deadline| self.clone_again(deadline),
        );
        for ward in &wards {
            if ward.marker.state() != crate::sys::marker::State::Frozen {
                ward.marker.remove();
            }
        }
        result
    }

    fn sync(&self, root: &OwnedFd) -> Result<()> {
        rustix::fs::syncfs(root).doing("write back", &self.source.name)
    }

    /// Clones everything while it is in use, until a pass finds little left to do.
    fn pre_clone(&self) -> Result<()> {
        let what = format!("cloning {}", self.source.name);
        let mut last = Duration::MAX;
        for pass in 0..PASSES {
            let started = Instant::now();
            reflink::clone_data(self.source.file, self.destination, self.size, |done| {
                if pass == 0 {
                    self.observer.progress(&what, done, self.size);
                }
            })
            .map_err(|error| self.clone_error(error))?;
            let time = started.elapsed();
            // No shorter than the one before: what is left is what is written meanwhile.
            if time < SHORT_PASS || (pass > 0 && time > last.mul_f32(0.8)) {
                break;
            }
            last = time;
        }
        Ok(())
    }

    /// Clones everything over what the pre-clone left.  Inside the freeze: nothing but ioctls.
    fn clone_again(&self, deadline: Deadline) -> std::io::Result<()> {
        let step = reflink::FROZEN_RANGE.max(self.size / 64);
        let range = (0, self.size);
        reflink::clone_in_steps(self.source.file, self.destination, range, step, || {
            deadline.is_ahead()
        })
    }

    fn at_once(&self) -> Result<Timestamp> {
        reflink::clone_at_once(self.source.file, self.destination, self.size)
            .map_err(|error| self.clone_error(error))?;
        Ok(Timestamp::now())
    }

    /// Whether the clone of an unused image is clean: its log needs no replay.
    fn prove(&self) -> Result<Consistency> {
        let device = attach_for_us(self.destination, true, self.source.sector)?;
        let is_clean = self.source.fs.is_clean(&device.path());
        device.close()?;
        Ok(if is_clean {
            Consistency::Clean
        } else {
            Consistency::Crash
        })
    }

    /// A clone that is not as long as its source is none; then makes it durable.
    fn verify(&self) -> Result<()> {
        let length = self
            .destination
            .metadata()
            .doing("look at", "the clone")?
            .len();
        if length != self.size {
            return Err(Error::refused(
                format!("cannot clone {}", self.source.name),
                format!("the kernel cloned {length} of {} bytes", self.size),
            ));
        }
        rustix::fs::fsync(self.destination).doing("write back the clone of", &self.source.name)
    }

    fn clone_error(&self, error: std::io::Error) -> Error {
        let what = format!("cannot clone {}", self.source.name);
        match error.raw_os_error() {
            Some(libc::EXDEV) => {
                Error::refused(what, "source and destination are on different filesystems")
                    .with_hint(
                        "a reflink shares blocks within one filesystem; copy the file there first",
                    )
            }
            Some(libc::EOPNOTSUPP | libc::ENOTTY) => {
                Error::refused(what, "the filesystem has no reflinks")
                    .with_hint("XFS (made with reflink=1) and btrfs have them")
            }
            Some(libc::EINVAL) => Error::refused(
                what,
                "the kernel cloned only a part, or cannot clone this file",
            ),
            _ => Error::io("clone", Path::new(&self.source.name), error),
        }
    }
}
