//! Taking images, by the ways that were found for them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::error::{Context, Error, Result};
use crate::image::{NewImage, attach_for_us};
use crate::plan::Observer;
use crate::record::Consistency;
use crate::snapshot::{Source, Taken, Way};
use crate::sys::freeze::{Deadline, Frozen, Limits, while_frozen};
use crate::sys::guardian::Ward;
use crate::sys::loopdev::Attached;
use crate::sys::marker::{Marker, Note};
use crate::sys::{ioctl, reflink};

/// Passes of the pre-clone at most: a writer that never rests must not keep it going for ever.
const PASSES: u32 = 4;

/// A pass this short leaves little for the freeze.
const SHORT_PASS: Duration = Duration::from_millis(20);

/// One image that is to be taken.
#[derive(Debug)]
pub struct Job<'a> {
    /// What is taken.
    pub source: &'a Source<'a>,
    /// Where it goes; must be empty.
    pub destination: &'a NewImage,
    /// How.
    pub way: &'a Way,
}

/// The longest time for which a guest may be frozen, if nobody says otherwise.
pub const MAX_FREEZE: Duration = Duration::from_secs(10);

/// Takes one image; making it durable is left to who names it.  Waits up to `wait` while somebody
/// else has frozen it.
pub fn take(
    source: &Source<'_>,
    destination: &NewImage,
    way: &Way,
    wait: Duration,
    observer: &dyn Observer,
) -> Result<Taken> {
    let limits = Limits {
        frozen: MAX_FREEZE,
        wait,
    };
    let mut taken = take_all(
        &[Job {
            source,
            destination,
            way,
        }],
        limits,
        observer,
    )?;
    // One job, one result.
    taken.pop().ok_or_else(|| {
        Error::refused(
            format!("cannot clone {}", source.name),
            "nothing came of it",
        )
    })
}

/// Takes several images at one instant: between the first and the last clone nobody writes to any
/// of them.
///
/// # Errors
/// What the first one fails with; then none of them is of any use.
pub fn take_all(jobs: &[Job<'_>], limits: Limits, observer: &dyn Observer) -> Result<Vec<Taken>> {
    let takings = jobs
        .iter()
        .map(|job| Taking::new(job, observer))
        .collect::<Result<Vec<_>>>()?;
    let mut expected = Duration::ZERO;
    for taking in &takings {
        observer.begin(&taking.way.step(taking.source));
        expected += taking.prepare(jobs.len() > 1)?;
    }
    let wards = takings
        .iter()
        .filter_map(|taking| taking.ward().transpose())
        .collect::<Result<Vec<_>>>()?;
    if !wards.is_empty() && expected > limits.frozen {
        let names: Vec<&str> = takings
            .iter()
            .map(|taking| taking.source.name.as_str())
            .collect();
        return Err(Error::FrozenTooLong {
            name: names.join(", "),
            limit: limits.frozen,
        });
    }
    let frozen = if wards.is_empty() {
        clone_all(&takings, None).map_err(|(taking, error)| taking.clone_error(error))?;
        Frozen {
            at: Timestamp::now(),
            time: Duration::ZERO,
        }
    } else {
        let mut failed = None;
        while_frozen(&wards, limits, |deadline| {
            clone_all(&takings, Some(deadline)).map_err(|(taking, error)| {
                failed = Some(taking);
                error
            })
        })
        // The work's own errors are the cloning's, and name the image.
        .map_err(|error| match (failed, error) {
            (
                Some(taking),
                Error::Io {
                    action: "clone",
                    source,
                    ..
                },
            ) => taking.clone_error(source),
            (_, error) => error,
        })?
    };
    takings
        .iter()
        .map(|taking| taking.finish(&frozen))
        .collect()
}

/// The instant: inside a freeze nothing but ioctls and looks at the clock.
fn clone_all<'t, 'a>(
    takings: &'t [Taking<'a>],
    deadline: Option<Deadline>,
) -> Result<(), (&'t Taking<'a>, std::io::Error)> {
    for taking in takings {
        taking
            .clone_now(deadline)
            .map_err(|error| (taking, error))?;
    }
    Ok(())
}

struct Taking<'a> {
    source: &'a Source<'a>,
    destination: &'a File,
    way: &'a Way,
    size: u64,
    observer: &'a dyn Observer,
}

impl<'a> Taking<'a> {
    fn new(job: &Job<'a>, observer: &'a dyn Observer) -> Result<Self> {
        let Job {
            source,
            destination,
            way,
        } = job;
        let size = source.file.metadata().doing("look at", &source.name)?.len();
        Ok(Self {
            source,
            destination: &destination.file,
            way,
            size,
            observer,
        })
    }

    /// Does before the instant what can be done before, and tells how long the rest will take: as
    /// long as the last pass, which did the same.
    ///
    /// What needs no freeze itself is cloned inside that of the rest of its group.
    fn prepare(&self, is_in_group: bool) -> Result<Duration> {
        match self.way {
            Way::Frozen { root, .. } => {
                // What the guest has not written yet would be written, and cloned, in the freeze.
                self.sync(root)?;
                let last = self.pre_clone()?;
                self.sync(root)?;
                Ok(last)
            }
            Way::Crash => self.pre_clone(),
            Way::Unused { .. } | Way::Immutable(_) if is_in_group => self.pre_clone(),
            Way::Unused { .. } | Way::Immutable(_) => Ok(Duration::ZERO),
        }
    }

    fn sync(&self, root: &OwnedFd) -> Result<()> {
        rustix::fs::syncfs(root).doing("write back", &self.source.name)
    }

    /// What is to be frozen for it, if anything.
    fn ward(&self) -> Result<Option<Ward>> {
        let Way::Frozen { root, device, .. } = self.way else {
            return Ok(None);
        };
        let root = root.try_clone().doing("open", &self.source.name)?;
        let marker = Marker::create(&self.note(device))?;
        Ok(Some(Ward {
            name: self.source.name.clone(),
            root,
            marker,
        }))
    }

    fn note(&self, device: &Attached) -> Note {
        Note {
            pid: std::process::id(),
            loop_number: device.number,
            device: device.file.device,
            inode: device.file.inode,
            fstype: self.source.fs.to_string(),
            name: self.source.name.clone(),
        }
    }

    /// Clones everything while it is in use, until a pass finds little left to do.
    fn pre_clone(&self) -> Result<Duration> {
        let what = format!("cloning {}", self.source.name);
        let mut last = Duration::MAX;
        for pass in 0..PASSES {
            let started = Instant::now();
            // The last block is left to the last call: so the clone's length proves that it came.
            let length = self.size.saturating_sub(1) / 4096 * 4096;
            reflink::clone_data(self.source.file, self.destination, length, |done| {
                if pass == 0 {
                    self.observer.progress(&what, done, self.size);
                }
            })
            .map_err(|error| self.clone_error(error))?;
            let time = started.elapsed();
            // No shorter than the one before: what is left is what is written meanwhile.
            if time < SHORT_PASS || (pass > 0 && time > last.mul_f32(0.8)) {
                return Ok(time);
            }
            last = time;
        }
        Ok(last)
    }

    /// Clones everything, over what the pre-clone left.
    fn clone_now(&self, deadline: Option<Deadline>) -> std::io::Result<()> {
        match (self.way, deadline) {
            (Way::Frozen { .. }, Some(deadline)) => {
                let step = reflink::FROZEN_RANGE.max(self.size / 64);
                let may_go_on = || deadline.is_ahead();
                reflink::clone_in_steps(
                    self.source.file,
                    self.destination,
                    (0, self.size),
                    step,
                    may_go_on,
                )
            }
            _ => reflink::clone_at_once(self.source.file, self.destination, self.size),
        }
    }

    fn finish(&self, frozen: &Frozen) -> Result<Taken> {
        self.verify()?;
        let (consistency, frozen_time) = match self.way {
            Way::Frozen { .. } => (Consistency::Frozen, Some(frozen.time)),
            Way::Unused { .. } => (self.prove()?, None),
            Way::Crash => (Consistency::Crash, None),
            Way::Immutable(consistency) => (*consistency, None),
        };
        let extents = ioctl::extent_count(self.destination).ok();
        let at = crate::time::to_microseconds(frozen.at);
        Ok(Taken {
            at,
            consistency,
            frozen: frozen_time,
            extents,
            size: self.size,
        })
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

    /// A clone that is not as long as its source is none.
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
        Ok(())
    }

    fn clone_error(&self, error: std::io::Error) -> Error {
        let what = format!("cannot clone {}", self.source.name);
        match error.raw_os_error() {
            Some(libc::EXDEV) => {
                Error::refused(what, "source and destination are on different filesystems")
                    .with_hint(
                        "a reflink shares blocks within one filesystem; elsewhere, copy the image of a snapshot, never one in use",
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
