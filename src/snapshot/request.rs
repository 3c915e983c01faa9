//! Snapshots of a pool's volumes, one or a group: locks, names, records, and the index.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::OFlags;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::image::{Named, NewImage};
use crate::index::Index;
use crate::name::{Name, SnapshotName};
use crate::plan::{Observer, Step};
use crate::pool::lock::Lock;
use crate::pool::{Edit, Place, Pool, edit};
use crate::record::Record;
use crate::snapshot::take::MAX_FREEZE;
use crate::snapshot::{Job, Limits, Source, Taken, Way, choose, take_all};
use crate::space::{Claim, must_allow};
use crate::usage::Usage;
use crate::volume::{current_record, remember};

/// A snapshot that was taken.
pub type Snapshot = (SnapshotName, Record);

/// One that has no name yet.
type New = (SnapshotName, Record, NewImage);

/// Snapshots to be taken at one instant, all under one name.
#[derive(Debug)]
pub struct Request<'p> {
    pool: &'p Pool,
    /// In the order of their names, in which they are locked.
    volumes: BTreeMap<Name, Volume>,
    /// The name that was asked for; otherwise the time gives one.
    wanted: Option<Name>,
    options: Options,
}

/// How to take them.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Do not freeze.
    pub crash: bool,
    /// Do not freeze if freezing would take too long.
    pub crash_if_late: bool,
    /// The longest time for which a guest may be frozen.
    pub max_freeze: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            crash: false,
            crash_if_late: false,
            max_freeze: MAX_FREEZE,
        }
    }
}

#[derive(Debug)]
struct Volume {
    record: Record,
    file: File,
    _lock: Lock,
}

impl<'p> Request<'p> {
    /// Locks the volumes and looks whether the name is free.
    pub fn open(
        pool: &'p Pool,
        names: &[Name],
        wanted: Option<Name>,
        options: Options,
    ) -> Result<Self> {
        let mut sorted = names.to_vec();
        sorted.sort();
        let is_twice = |pair: &&[Name]| matches!(pair, [one, other] if one == other);
        if let Some([name, ..]) = sorted.windows(2).find(is_twice) {
            return Err(Error::usage(
                format!("{name} stands there twice"),
                "name each volume once",
            ));
        }
        let index = pool.index()?;
        for name in &sorted {
            index.volume(name)?;
        }
        let mut volumes = BTreeMap::new();
        for name in sorted {
            let place = Place::volume(&name);
            let lock = Lock::of_image(pool, &place)?;
            let file = pool.open_image(&place, OFlags::RDONLY)?;
            let record = current_record(&file, &pool.index()?.volume(&name)?.record)?;
            volumes.insert(
                name,
                Volume {
                    record,
                    file,
                    _lock: lock,
                },
            );
        }
        let request = Self {
            pool,
            volumes,
            wanted,
            options,
        };
        request.must_be_free(&pool.index()?)?;
        Ok(request)
    }

    fn must_be_free(&self, index: &Index) -> Result<()> {
        let name = self.name(index, crate::time::now());
        for volume in self.volumes.keys() {
            let full = SnapshotName {
                volume: volume.clone(),
                snapshot: name.clone(),
            };
            index.must_not_have_snapshot(&full)?;
            edit::must_be_free(self.pool, &Place::Snapshot(full).path())?;
        }
        Ok(())
    }

    fn name(&self, index: &Index, time: Timestamp) -> Name {
        let has = |volume: &Name, name: &Name| {
            index
                .volumes
                .get(volume)
                .is_some_and(|volume| volume.snapshots.contains_key(name))
        };
        let is_taken = |name: &Name| self.volumes.keys().any(|volume| has(volume, name));
        self.wanted
            .clone()
            .unwrap_or_else(|| Name::automatic(time, is_taken))
    }

    fn sources(&self, snapshot: &Name) -> Vec<Source<'_>> {
        self.volumes
            .iter()
            .map(|(name, volume)| volume.source(name, snapshot))
            .collect()
    }

    fn ways(sources: &[Source<'_>], crash: bool) -> Result<Vec<Way>> {
        let usage = Usage::look()?;
        sources
            .iter()
            .map(|source| choose(source, &usage, crash))
            .collect()
    }

    /// What [`Request::carry_out`] does.
    pub fn plan(&self) -> Result<Vec<Step>> {
        let sources = self.sources(&self.name(&self.pool.index()?, crate::time::now()));
        let ways = Self::ways(&sources, self.options.crash)?;
        Ok(ways
            .iter()
            .zip(&sources)
            .map(|(way, source)| way.step(source))
            .collect())
    }

    /// Takes the snapshots: all of them, or none.
    pub fn carry_out(&self, observer: &dyn Observer) -> Result<Vec<Snapshot>> {
        let names: Vec<Name> = self.volumes.keys().cloned().collect();
        let shown: Vec<&str> = names.iter().map(Name::as_str).collect();
        let what = format!("cannot snapshot {}", shown.join(", "));
        let _claimed = must_allow(self.pool, &what, Claim::Snapshots(&names))?;
        match self.take(self.options.crash, observer) {
            // Into new files: what was cloned for the freeze is torn without one.
            Err(Error::FrozenTooLong { name, .. }) if self.options.crash_if_late => {
                observer.warn(&format!(
                    "freezing {name} takes too long: taking it unfrozen"
                ));
                self.take(true, observer)
            }
            result => result,
        }
    }

    fn take(&self, crash: bool, observer: &dyn Observer) -> Result<Vec<Snapshot>> {
        let intended = self.name(&self.pool.index()?, crate::time::now());
        let sources = self.sources(&intended);
        let ways = Self::ways(&sources, crash)?;
        let new_image =
            |name: &Name| NewImage::for_place(self.pool, &Place::snapshot(name, &intended));
        let images = self
            .volumes
            .keys()
            .map(new_image)
            .collect::<Result<Vec<_>>>()?;
        let jobs: Vec<Job<'_>> = sources
            .iter()
            .zip(&images)
            .zip(&ways)
            .map(|((source, destination), way)| Job {
                source,
                destination,
                way,
            })
            .collect();
        let limits = Limits {
            frozen: self.options.max_freeze,
            wait: self.pool.wait,
        };
        let taken = take_all(&jobs, limits, observer)?;
        drop(jobs);
        let is_one_instant = taken.len() > 1 && !crash;
        if crash && taken.len() > 1 {
            observer
                .warn("without a freeze they are taken one after the other, not at one instant");
        }
        self.publish(images, &taken, is_one_instant.then(Uuid::new_v4))
    }

    fn publish(
        &self,
        images: Vec<NewImage>,
        taken: &[Taken],
        group: Option<Uuid>,
    ) -> Result<Vec<Snapshot>> {
        let mut edit = Edit::begin(self.pool)?;
        let at = taken
            .first()
            .map_or_else(crate::time::now, |taken| taken.at);
        let snapshot = self.name(&edit.index, at);
        let mut new = Vec::new();
        for ((name, volume), (image, taken)) in
            self.volumes.iter().zip(images.into_iter().zip(taken))
        {
            let full = SnapshotName {
                volume: name.clone(),
                snapshot: snapshot.clone(),
            };
            edit.index.must_not_have_snapshot(&full)?;
            volume.must_still_be(name, &edit.index)?;
            let mut record = volume.record_of(taken, group);
            record.allocated = Some(image.allocated()?);
            new.push((full, record, image));
        }
        let if_killed = new.iter().map(|(full, record, _)| Step::RemoveNew {
            path: Place::Snapshot(full.clone()).path(),
            uuid: record.uuid,
        });
        edit.add_together(if_killed.collect(), |edit| self.name_all(edit, new))
    }

    fn name_all(&self, edit: &mut Edit<'_>, new: Vec<New>) -> Result<(Vec<Named>, Vec<Snapshot>)> {
        let mut named = Vec::new();
        let mut snapshots = Vec::new();
        for (full, record, image) in new {
            if let Some(volume) = self.volumes.get(&full.volume) {
                remember(edit, &full.volume, &volume.file, &volume.record)?;
            }
            named.push(image.publish(self.pool, &Place::Snapshot(full.clone()), &record)?);
            edit.index
                .volume_mut(&full.volume)?
                .snapshots
                .insert(full.snapshot.clone(), record.clone());
            snapshots.push((full, record));
        }
        Ok((named, snapshots))
    }
}

impl Volume {
    fn source(&self, name: &Name, snapshot: &Name) -> Source<'_> {
        Source {
            name: name.to_string(),
            file: &self.file,
            fs: &self.record.fs,
            sector: self.record.sector,
            paths: (
                Place::volume(name).path(),
                Place::snapshot(name, snapshot).path(),
            ),
        }
    }

    fn must_still_be(&self, name: &Name, index: &Index) -> Result<()> {
        if index.volume(name)?.record.uuid == self.record.uuid {
            return Ok(());
        }
        Err(Error::refused(
            format!("cannot snapshot {name}"),
            "it was replaced meanwhile",
        )
        .with_hint("try again"))
    }

    fn record_of(&self, taken: &Taken, group: Option<Uuid>) -> Record {
        let mut record = self.record.child();
        record.volume = Some(self.record.uuid);
        record.group = group;
        record.created = taken.at;
        record.size = taken.size;
        record.consistency = Some(taken.consistency);
        record.frozen_us = taken
            .frozen
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        record.extents = taken.extents;
        record
    }
}
