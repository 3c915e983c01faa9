//! One image that is being taken: what is asked of the kernel for it before, at, and after the
//! instant.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::error::{Context, Error, Result, WRITE_BACK_GUEST};
use crate::guest::write_back;
use crate::image::{NewImage, attach_for_us};
use crate::plan::Observer;
use crate::record::Consistency;
use crate::snapshot::dirty::Dirty;
use crate::snapshot::share::Share;
use crate::snapshot::tracker::Tracker;
use crate::snapshot::{Source, Taken, Way};
use crate::sys::freeze::{Deadline, Frozen};
use crate::sys::guardian::Ward;
use crate::sys::loopdev::Attached;
use crate::sys::marker::{Marker, Note};
use crate::sys::{ioctl, rcu, reflink};

/// How often what came meanwhile is cloned inside the freeze.
const ROUNDS: u32 = 16;

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

/// A job that was begun.
pub struct Taking<'a> {
    /// What is taken.
    pub source: &'a Source<'a>,
    destination: &'a File,
    /// How.
    pub way: &'a Way,
    size: u64,
    observer: &'a dyn Observer,
}

impl<'a> Taking<'a> {
    /// Looks at the source; clones nothing yet.
    pub fn new(job: &Job<'a>, observer: &'a dyn Observer) -> Result<Self> {
        let Job {
            source,
            destination,
            way,
        } = job;
        let size = source.file.metadata().doing("look at", &source.name)?.len();
        observer.begin(&way.step(source));
        Ok(Self {
            source,
            destination: &destination.file,
            way,
            size,
            observer,
        })
    }

    /// Lets the guest write everything back, if it is mounted.
    pub fn sync(&self) -> Result<()> {
        match self.way {
            Way::Frozen { root, .. } => {
                rustix::fs::syncfs(root).doing(WRITE_BACK_GUEST, &self.source.name)
            }
            _ => Ok(()),
        }
    }

    /// The same for the first time.
    pub fn sync_first(&self) -> Result<()> {
        match self.way {
            Way::Frozen { root, .. } => write_back(root, &self.source.name, self.observer),
            _ => Ok(()),
        }
    }

    /// What is to be frozen for it, if anything.
    pub fn ward(&self) -> Result<Option<Ward>> {
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
            expedites: rcu::is_off(),
        }
    }

    /// Follows what is written from now on, where that is possible, as one of so many `images`.
    pub fn start_tracker(&self, images: usize) -> Option<Tracker> {
        let Way::Frozen { device, .. } = self.way else {
            return None;
        };
        match Tracker::start(device, self.source.file, self.size, images) {
            Ok(tracker) => Some(tracker),
            Err(error) => {
                let name = &self.source.name;
                self.observer
                    .detail(&format!("{name}: cannot follow what is written: {error}"));
                None
            }
        }
    }

    /// The guest's share of the time.
    pub fn share(&self) -> Share {
        match self.way {
            Way::Frozen { device, .. } => Share::of_device(device.number),
            Way::Crash {
                device: Some(number),
            } => Share::of_device(*number),
            _ => Share::of_nobody(),
        }
    }

    /// The first pass over an image in use: all data.
    pub fn clone_data(&self, mut after: impl FnMut(Duration)) -> Result<Duration> {
        let what = format!("cloning {}", self.source.name);
        self.observer.progress(&what, 0, self.size);
        let parts = reflink::data(self.source.file, self.length_in_use());
        let after = |at, time| {
            self.observer.progress(&what, at, self.size);
            after(time);
        };
        let time = reflink::clone_in_use(self.source.file, self.destination, parts, after);
        self.observer.progress(&what, self.size, self.size);
        time.map_err(|error| self.clone_error(error))
    }

    /// A later pass over an image in use: what was written, or all of it if that is not known.
    pub fn clone_again(
        &self,
        written: Option<&Dirty>,
        mut after: impl FnMut(Duration),
    ) -> Result<Duration> {
        let (from, to, length) = (self.source.file, self.destination, self.length_in_use());
        let after = |_, time| after(time);
        let time = match written {
            Some(written) => {
                let most = reflink::most_data(from, false);
                let part = |(at, length)| Ok(reflink::Part { at, length, most });
                reflink::clone_in_use(from, to, written.runs(length).map(part), after)
            }
            None => reflink::clone_in_use(from, to, reflink::whole(from, length), after),
        };
        time.map_err(|error| self.clone_error(error))
    }

    /// What is cloned of an image in use: the last block is left to the last call, so that the
    /// clone's length proves that it came.
    pub fn length_in_use(&self) -> u64 {
        self.size.saturating_sub(1) / 4096 * 4096
    }

    /// Clones at the instant, over what the passes have left.
    pub fn clone_now(
        &self,
        tracker: Option<&mut Tracker>,
        deadline: Option<Deadline>,
    ) -> io::Result<()> {
        match (self.way, deadline) {
            (Way::Frozen { .. }, Some(deadline)) => {
                let is_cloned = match tracker {
                    Some(tracker) => self.clone_written(tracker, deadline)?,
                    None => false,
                };
                if is_cloned {
                    return Ok(());
                }
                self.clone_frozen((0, self.size), deadline)
            }
            _ => reflink::clone_at_once(self.source.file, self.destination, self.size),
        }
    }

    /// Clones what was written since the last pass; false if that is not known.
    ///
    /// # Errors
    /// The kernel's; the tracker knows nothing then, as what it gave out is not all cloned.
    fn clone_written(&self, tracker: &mut Tracker, deadline: Deadline) -> io::Result<bool> {
        // Again, until nothing came meanwhile: discards that were on their way, at most.
        for _ in 0..ROUNDS {
            let Some(written) = tracker.take() else {
                break;
            };
            if written.is_empty() {
                tracker.put_back(written);
                let last = self.length_in_use();
                self.clone_frozen((last, self.size - last), deadline)?;
                return Ok(true);
            }
            for run in written.runs(self.size) {
                if let Err(error) = self.clone_frozen(run, deadline) {
                    tracker.lose();
                    return Err(error);
                }
            }
            tracker.put_back(written);
        }
        tracker.lose();
        Ok(false)
    }

    fn clone_frozen(&self, range: (u64, u64), deadline: Deadline) -> io::Result<()> {
        // In whole blocks, or the kernel refuses it, however odd the size is.
        let step = (self.size / 64)
            .max(1)
            .next_multiple_of(reflink::FROZEN_RANGE);
        let may_go_on = || deadline.is_ahead();
        reflink::clone_in_steps(self.source.file, self.destination, range, step, may_go_on)
    }

    /// Says so.
    pub fn detail(&self, text: &str) {
        self.observer
            .detail(&format!("{}: {text}", self.source.name));
    }

    /// Checks the clone, and tells what became of it.
    pub fn finish(&self, frozen: &Frozen) -> Result<Taken> {
        self.verify()?;
        let (consistency, frozen_time) = match self.way {
            Way::Frozen { .. } => {
                let milliseconds = frozen.time.as_secs_f64() * 1000.0;
                self.detail(&format!("frozen for {milliseconds:.1} ms"));
                (Consistency::Frozen, Some(frozen.time))
            }
            Way::Unused { .. } => (self.prove()?, None),
            Way::Crash { .. } => (Consistency::Crash, None),
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
        let now = self.source.file.metadata();
        let now = now.doing("look at", &self.source.name)?.len();
        if now != self.size {
            return Err(Error::refused(
                format!("cannot clone {}", self.source.name),
                format!("it was {} bytes long, and has {now} now", self.size),
            )
            .with_hint("try again"));
        }
        if length != self.size {
            return Err(Error::refused(
                format!("cannot clone {}", self.source.name),
                format!("the kernel cloned {length} of {} bytes", self.size),
            ));
        }
        Ok(())
    }

    /// Words what the kernel says to a clone.
    pub fn clone_error(&self, error: io::Error) -> Error {
        let what = format!("cannot clone {}", self.source.name);
        match error.raw_os_error() {
            Some(libc::EXDEV) => {
                Error::refused(what, "source and destination are on different filesystems")
                    .with_hint(
                        "a reflink shares blocks within one filesystem; 'lovol create NAME --from IMAGE --copy' copies an image that is not in use into a pool",
                    )
            }
            Some(libc::EOPNOTSUPP | libc::ENOTTY) => {
                Error::refused(what, "the filesystem has no reflinks")
                    .with_hint("XFS (made with reflink=1) and btrfs have them")
            }
            // Also where an allocation group has no room for more records of who shares its blocks
            // (fs/xfs/xfs_reflink.c, `xfs_reflink_ag_has_free_space`).
            Some(libc::ENOSPC) => Error::refused(
                what,
                "No space left on the pool's filesystem, or for the records of shared blocks",
            )
            .with_hint(
                "delete snapshots or purge the trash; where 'df' shows space, those with the most extents ('lovol show')",
            ),
            Some(libc::EINVAL) => Error::refused(
                what,
                "the kernel cloned only a part, or cannot clone this file",
            ),
            _ => Error::io("clone", Path::new(&self.source.name), error),
        }
    }
}
