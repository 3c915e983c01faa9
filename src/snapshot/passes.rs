//! Before the instant: cloning images while they are in use, until little is left for the freeze.
//!
//! ```text
//! 1. all data                        ~60 us an extent
//! 2. all again, its holes as well    ~1 us an extent, what was written meanwhile ~60 us
//!    from here on a tracker follows what is written, if 1 took long enough to be worth it
//! 3. only what was written           until that is little, or no less than the time before
//! ```
//! Without a tracker 3 is 2 again, and the freeze takes as long as one more of it.
//!
//! How long they take decides when to stop.  Measured with the writers of `make bench` and passes that
//! went on whatever they found, in ms (XFS guest, pool on a direct-I/O loop, Linux 6.18, 2 cores):
//!
//! ```text
//! extents  writer    followed   1: all   2: again     3     4     5   14   frozen
//! 100,000  log       yes          1925         38   0.0   0.0   0.1  0.0      1.3
//! 100,000  database  yes          1912        167  15.1   0.3   0.1  0.0      1.2
//! 100,000  log       no           2280         62    66    43    57   48       39
//! 100,000  database  no           2050        198    60    50    45   46       34
//!  10,000  database  no            137         16   5.9   4.6   5.1  4.4      5.2
//! ```
//! Followed, each pass leaves a tenth or less of its own time to the next: after one of 5 ms the freeze
//! has less than half a millisecond to clone, which is less than freezing itself takes.  Not followed,
//! they come down to half a microsecond for each extent there is, in the third pass or the fourth, and
//! stay there: one that is not a fifth shorter than the one before is the last.  The writer that never
//! rests changes neither.

use std::io;
use std::time::Duration;

use crate::error::Result;
use crate::snapshot::Way;
use crate::snapshot::taking::Taking;
use crate::snapshot::tracker::Tracker;
use crate::sys::freeze::Deadline;

/// Passes at most: a writer that never rests must not keep them going for ever.
const PASSES: u32 = 8;

/// A pass this short leaves little for the freeze.
const SHORT_PASS: Duration = Duration::from_millis(5);

/// Images that were cloned while they are in use, as far as that goes.
pub struct Passes<'t, 'a> {
    takings: &'t [Taking<'a>],
    /// One for each of them that has one.
    trackers: Vec<Option<Tracker>>,
    /// How long the last pass over all of it took, for each of them.
    whole: Vec<Duration>,
    /// How long the instant's clone will take, by what the last pass took.
    pub expected: Duration,
}

impl<'t, 'a> Passes<'t, 'a> {
    /// Does all of it.  What takes `worth_tracking` in its first pass is followed.
    pub fn run(takings: &'t [Taking<'a>], worth_tracking: Duration) -> Result<Self> {
        let mut passes = Self {
            takings,
            trackers: Vec::new(),
            whole: vec![Duration::ZERO; takings.len()],
            expected: Duration::ZERO,
        };
        let times = passes.first()?;
        passes.tell(1, times.iter().sum());
        let is_worth = |time: &Duration| *time >= worth_tracking;
        let images = times.iter().filter(|time| is_worth(time)).count();
        let start = |taking: &Taking<'_>| taking.start_tracker(images);
        passes.trackers = takings
            .iter()
            .zip(&times)
            .map(|(taking, time)| is_worth(time).then(|| start(taking)).flatten())
            .collect();
        passes.expected = passes.repeat(times.iter().sum())?;
        Ok(passes)
    }

    /// Whether there is anything to be done for it before the instant.
    ///
    /// What nobody uses can be cloned by one call; in a group that call must be short as well, as
    /// it comes inside the freeze of the others.
    fn takes_part(&self, taking: &Taking<'_>) -> bool {
        match taking.way {
            Way::Frozen { .. } | Way::Crash { .. } => true,
            Way::Unused { .. } | Way::Immutable(_) => self.takings.len() > 1,
        }
    }

    /// The first pass over each; returns how long the calls took.
    fn first(&self) -> Result<Vec<Duration>> {
        let pass = |taking: &Taking<'_>| {
            if !self.takes_part(taking) {
                return Ok(Duration::ZERO);
            }
            taking.sync_first()?;
            let mut share = taking.share();
            taking.clone_data(|time| share.rest_after(time))
        };
        self.takings.iter().map(pass).collect()
    }

    /// Passes over all of them in turn, until one finds little to do; returns how long it took.
    fn repeat(&mut self, first: Duration) -> Result<Duration> {
        let mut last = first;
        for pass in 1..PASSES {
            // A tracker must have seen a whole pass before it knows anything.
            let is_needed = pass == 1 && self.is_tracking();
            if last < SHORT_PASS && !is_needed {
                break;
            }
            // What a guest has not written yet would be written, and cloned, in the freeze.
            self.sync()?;
            let mut time = Duration::ZERO;
            for number in 0..self.takings.len() {
                time += self.pass(number, pass > 1)?;
            }
            self.tell(pass + 1, time);
            // No shorter than the one before: what is left is what is written meanwhile.
            let is_as_long = pass > 1 && time > last.mul_f32(0.8);
            last = time;
            if is_as_long {
                break;
            }
        }
        self.sync()?;
        Ok(last)
    }

    /// What nothing is cloned for before the instant is not told of.
    fn tell(&self, pass: u32, time: Duration) {
        if let Some(taking) = self.takings.iter().find(|taking| self.takes_part(taking)) {
            let how = match (pass, self.is_tracking()) {
                (1, _) => "cloned",
                (_, true) => "followed and cloned again",
                (_, false) => "cloned again",
            };
            let milliseconds = time.as_secs_f64() * 1000.0;
            taking.detail(&format!("pass {pass}: {how} in {milliseconds:.1} ms"));
        }
    }

    fn sync(&self) -> Result<()> {
        self.takings.iter().try_for_each(Taking::sync)
    }

    /// Clones once more over one of them: what its tracker knows, or everything.
    fn pass(&mut self, number: usize, is_known: bool) -> Result<Duration> {
        let taking = &self.takings[number];
        if !self.takes_part(taking) {
            return Ok(Duration::ZERO);
        }
        let mut share = taking.share();
        let taken = match &mut self.trackers[number] {
            Some(tracker) if is_known => {
                let taken = tracker.take();
                if taken.is_none() {
                    taking.detail("not all that was written is known; cloning all again");
                    tracker.start_over();
                }
                taken
            }
            _ => None,
        };
        // The rings of the others fill as well.
        let trackers = &mut self.trackers;
        let after = |time| {
            trackers.iter_mut().flatten().for_each(Tracker::follow);
            share.rest_after(time);
        };
        let time = taking.clone_again(taken.as_ref(), after)?;
        if taken.is_none() {
            self.whole[number] = time;
        }
        if let (Some(tracker), Some(taken)) = (&mut self.trackers[number], taken) {
            tracker.put_back(taken);
        }
        Ok(time)
    }

    /// The instant's clones, over what the passes have left.  Inside a freeze there is a `deadline`:
    /// then nothing is allocated here, and nothing asked of the kernel but clones, the time, and the
    /// devices' statistics.
    ///
    /// # Errors
    /// The kernel's, with the number of the one that failed.
    pub fn clone_now(&mut self, deadline: Option<Deadline>) -> Result<(), (usize, io::Error)> {
        for (number, (taking, tracker)) in self.takings.iter().zip(&mut self.trackers).enumerate() {
            taking
                .clone_now(tracker.as_mut(), deadline)
                .map_err(|error| (number, error))?;
        }
        Ok(())
    }

    /// Whether anything is followed, and nothing was missed.
    pub fn is_tracking(&self) -> bool {
        self.trackers.iter().flatten().any(Tracker::is_complete)
    }

    /// Follows no image any more that somebody else may have written to: all of it is cloned at the
    /// next instant.  Whether there is one; if there was an instant already, its clone is of no use.
    pub fn distrust(&mut self) -> bool {
        let mut is_any = false;
        for (number, tracker) in self.trackers.iter_mut().enumerate() {
            if tracker.as_ref().is_some_and(|tracker| !tracker.is_right()) {
                self.takings[number]
                    .detail("somebody else may have written to it; cloning it whole");
                self.expected += self.whole[number];
                *tracker = None;
                is_any = true;
            }
        }
        is_any
    }
}
