//! Snapshots of a pool's volumes: [`crate::snapshot`] takes the image, this names and records it.

use std::fs::File;

use rustix::fs::OFlags;

use crate::error::Result;
use crate::image::NewImage;
use crate::index::Index;
use crate::name::{Name, SnapshotName};
use crate::plan::{Observer, Step};
use crate::pool::lock::Lock;
use crate::pool::{Edit, Place, Pool, edit};
use crate::record::Record;
use crate::snapshot::{self, Source, Taken, Way};
use crate::usage::Usage;

/// A snapshot to be taken.
#[derive(Debug)]
pub struct Request<'p> {
    pool: &'p Pool,
    volume: Name,
    /// The name that was asked for; otherwise the time gives one.
    wanted: Option<Name>,
    crash: bool,
    record: Record,
    file: File,
    _lock: Lock,
}

impl<'p> Request<'p> {
    /// Locks the volume and looks whether the name is free.
    pub fn open(pool: &'p Pool, volume: Name, wanted: Option<Name>, crash: bool) -> Result<Self> {
        let place = Place::volume(&volume);
        let lock = Lock::of_image(pool, &place)?;
        let index = pool.index()?;
        let record = index.volume(&volume)?.record.clone();
        let file = pool.open_image(&place, OFlags::RDONLY)?;
        let request = Self {
            pool,
            volume,
            wanted,
            crash,
            record,
            file,
            _lock: lock,
        };
        let name = request.name(&index, crate::time::now());
        index.must_not_have_snapshot(&name)?;
        edit::must_be_free(pool, &Place::Snapshot(name).path())?;
        Ok(request)
    }

    fn name(&self, index: &Index, time: jiff::Timestamp) -> SnapshotName {
        let is_taken = |name: &Name| {
            index
                .volumes
                .get(&self.volume)
                .is_some_and(|volume| volume.snapshots.contains_key(name))
        };
        let snapshot = self
            .wanted
            .clone()
            .unwrap_or_else(|| crate::time::automatic_name(time, is_taken));
        SnapshotName {
            volume: self.volume.clone(),
            snapshot,
        }
    }

    fn source(&self, to: &Place) -> Source<'_> {
        Source {
            name: self.volume.to_string(),
            file: &self.file,
            fs: &self.record.fs,
            sector: self.record.sector,
            paths: (Place::volume(&self.volume).path(), to.path()),
        }
    }

    fn way(&self, source: &Source<'_>) -> Result<Way> {
        snapshot::choose(source, &Usage::look()?, self.crash)
    }

    /// What [`Request::carry_out`] does.
    pub fn plan(&self) -> Result<Vec<Step>> {
        let name = self.name(&self.pool.index()?, crate::time::now());
        let source = self.source(&Place::Snapshot(name));
        Ok(vec![self.way(&source)?.step(&source)])
    }

    /// Takes the snapshot.
    pub fn carry_out(&self, observer: &dyn Observer) -> Result<(SnapshotName, Record)> {
        let intended = Place::Snapshot(self.name(&self.pool.index()?, crate::time::now()));
        let source = self.source(&intended);
        let way = self.way(&source)?;
        let image = NewImage::for_place(self.pool, &intended)?;
        let taken = snapshot::take(&source, &image, &way, self.pool.wait, observer)?;
        self.publish(image, &taken)
    }

    fn publish(&self, image: NewImage, taken: &Taken) -> Result<(SnapshotName, Record)> {
        let mut edit = Edit::begin(self.pool)?;
        let name = self.name(&edit.index, taken.at);
        edit.index.must_not_have_snapshot(&name)?;
        let record = self.record_of(taken);
        let named = image.publish(self.pool, &Place::Snapshot(name.clone()), &record)?;
        let volume = edit.index.volume_mut(&self.volume)?;
        volume
            .snapshots
            .insert(name.snapshot.clone(), record.clone());
        edit.save()?;
        named.keep();
        Ok((name, record))
    }

    fn record_of(&self, taken: &Taken) -> Record {
        let mut record = self.record.child();
        record.volume = Some(self.record.uuid);
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
