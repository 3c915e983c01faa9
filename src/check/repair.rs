//! Repairing: thaw, finish, sweep, rebuild the index.  Images are read, never removed, and written only
//! to finish a resize.

use std::collections::BTreeMap;

use crate::check::compare::with_index;
use crate::check::scan::{Found, Scanned, scan};
use crate::check::{Finding, Kind};
use crate::error::{Context, Error, Result};
use crate::index::{Index, Trashed, Unreadable, Volume};
use crate::name::{Name, SnapshotName};
use crate::plan::{Observer, Step};
use crate::pool::lock::Lock;
use crate::pool::place::records;
use crate::pool::{Edit, Place, Pool};
use crate::properties::RESIZING;
use crate::record::Record;
use crate::resize::{Amount, Resize};
use crate::size::Size;
use crate::sys::beneath;
use crate::sys::marker::{self, Abandoned};

/// Mends what can be mended, and returns what is still wrong.
pub fn repair(pool: &Pool, observer: &dyn Observer) -> Result<Vec<Finding>> {
    if pool.index().is_ok_and(|index| !index.intents.is_empty()) {
        // What cannot be finished is named by the check at the end.
        if let Err(error) = finish(pool, observer) {
            observer.warn(&error.to_string());
        }
    }
    let lock = Lock::of_pool(pool)?;
    let scanned = scan(pool).doing("read", pool.path())?;
    for path in &scanned.empty {
        observer.begin(&Step::RemoveDir { path: path.clone() });
        beneath::remove_dir(pool.dir(), path).doing("remove", pool.path().join(path))?;
    }
    if is_to_be_rebuilt(&with_index(pool, &scanned)) {
        rebuild(pool, lock, &scanned, observer)?;
    } else {
        drop(lock);
    }
    for (name, size) in resizing(pool) {
        let resized = Resize::open(pool, &name, Amount::To(size)).and_then(|resize| {
            // Locked by now: another lovol may have finished it.
            if resizing(pool).contains(&(name, size)) {
                resize.carry_out(observer)
            } else {
                Ok(())
            }
        });
        if let Err(error) = resized {
            observer.warn(&error.to_string());
        }
    }
    super::check(pool)
}

/// What was begun and cannot be finished now stays in the index: one that is made of what lies there would
/// take the half of it for the whole.
fn is_to_be_rebuilt(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| {
        finding.kind.is_mendable() && ![Kind::Unfinished, Kind::Resizing].contains(&finding.kind)
    })
}

/// The volumes whose resize was not finished, and the sizes that they are to get.
fn resizing(pool: &Pool) -> Vec<(Name, Size)> {
    let volumes = pool.index().map(|index| index.volumes).unwrap_or_default();
    let unfinished = volumes.into_iter().filter_map(|(name, volume)| {
        let size = volume.record.properties.get(RESIZING)?.parse().ok()?;
        Some((name, size))
    });
    unfinished.collect()
}

/// Whoever takes the lock finishes what was begun.
fn finish(pool: &Pool, observer: &dyn Observer) -> Result<()> {
    for step in pool.index()?.intents.iter().flatten() {
        observer.begin(step);
    }
    Edit::begin(pool).map(drop)
}

/// What [`repair`] would do.
pub fn plan(pool: &Pool) -> Result<Vec<Step>> {
    let left = marker::abandoned()?;
    let mut steps: Vec<Step> = left
        .iter()
        .filter_map(Abandoned::frozen)
        .map(|note| Step::Thaw {
            name: note.name.clone(),
        })
        .collect();
    let _lock = Lock::of_pool(pool)?;
    if let Ok(index) = pool.index() {
        steps.extend(index.intents.into_iter().flatten());
    }
    let scanned = scan(pool).doing("read", pool.path())?;
    let empty = scanned.empty.iter().cloned();
    steps.extend(empty.map(|path| Step::RemoveDir { path }));
    if is_to_be_rebuilt(&with_index(pool, &scanned)) {
        let index = rebuilt(pool, &scanned)?;
        steps.push(step_of(&index));
    }
    steps.extend(
        resizing(pool)
            .into_iter()
            .map(|(name, size)| Step::SizeImage {
                image: Place::volume(&name).path(),
                size,
            }),
    );
    Ok(steps)
}

fn step_of(index: &Index) -> Step {
    let snapshots = index
        .volumes
        .values()
        .map(|volume| volume.snapshots.len())
        .sum();
    Step::RebuildIndex {
        volumes: index.volumes.len(),
        snapshots,
    }
}

fn rebuild(pool: &Pool, lock: Lock, scanned: &Scanned, observer: &dyn Observer) -> Result<()> {
    let index = rebuilt(pool, scanned)?;
    observer.begin(&step_of(&index));
    Edit::with_index(pool, lock, index)?.save()
}

/// The index as the images say it should be.
fn rebuilt(pool: &Pool, scanned: &Scanned) -> Result<Index> {
    let mut index = Index::new(pool.uuid());
    let mut extras = BTreeMap::new();
    match pool.index() {
        Ok(old) => {
            keep_what_has_no_record(&mut index, &old, scanned);
            index.extra = old.extra;
            extras = old
                .volumes
                .into_iter()
                .map(|(name, volume)| (name, volume.extra))
                .collect();
        }
        // A newer form may hold what we cannot see: never written over.
        Err(
            error @ Error::Index {
                why: Unreadable::Newer(_),
                ..
            },
        ) => return Err(error),
        Err(_) => {}
    }
    for (place, found) in &scanned.images {
        if let Found {
            record: Ok(record), ..
        } = found
        {
            add(&mut index, place, record);
        }
    }
    for (name, volume) in &mut index.volumes {
        volume.extra = extras.remove(name).unwrap_or_default();
    }
    Ok(index)
}

/// An image whose record is lost keeps what the index knows of it.
fn keep_what_has_no_record(index: &mut Index, old: &Index, scanned: &Scanned) {
    for (place, record) in records(old) {
        let has_no_record = matches!(
            scanned.images.get(&place),
            Some(Found { record: Err(_), .. })
        );
        if has_no_record || scanned.unusable.contains(&place) {
            add(index, &place, record);
        }
    }
}

fn add(index: &mut Index, place: &Place, record: &Record) {
    match place {
        Place::Volume(name) => volume_of(index, name, record).record = record.clone(),
        Place::Snapshot(SnapshotName { volume, snapshot }) => {
            volume_of(index, volume, record)
                .snapshots
                .insert(snapshot.clone(), record.clone());
        }
        Place::TrashedVolume(id) => {
            if let Some(trashed) = trashed_of(index, id, record) {
                trashed.volume.record = record.clone();
            }
        }
        Place::TrashedSnapshot(id, snapshot) => {
            if let Some(trashed) = trashed_of(index, id, record) {
                trashed
                    .volume
                    .snapshots
                    .insert(snapshot.clone(), record.clone());
            }
        }
    }
}

/// A volume's entry.  Where only snapshots are left of it, they say what it was, so that they can
/// be cloned; that its image is missing is found each time.
fn volume_of<'i>(index: &'i mut Index, name: &Name, record: &Record) -> &'i mut Volume {
    index
        .volumes
        .entry(name.clone())
        .or_insert_with(|| Volume::new(stand_in(record)))
}

fn trashed_of<'i>(index: &'i mut Index, id: &str, record: &Record) -> Option<&'i mut Trashed> {
    let (name, time) = id.split_once('@')?;
    let name: Name = name.parse().ok()?;
    let deleted = time_in(time).unwrap_or(record.created);
    let new = || Trashed {
        name,
        deleted,
        volume: Volume::new(stand_in(record)),
    };
    Some(index.trash.entry(id.to_owned()).or_insert_with(new))
}

fn time_in(text: &str) -> Option<jiff::Timestamp> {
    let base = text.split('_').next()?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", base).ok()?;
    time.to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|zoned| zoned.timestamp())
}

fn stand_in(record: &Record) -> Record {
    let mut volume = Record::new(record.size, record.fs.clone());
    volume.uuid = record.volume.unwrap_or(record.uuid);
    volume.created = record.created;
    volume.fs_uuid.clone_from(&record.fs_uuid);
    volume.label.clone_from(&record.label);
    volume
}
