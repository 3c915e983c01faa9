//! What `list` and `show` show, as the same data for tables and JSON.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{AtFlags, Stat};
use serde::Serialize;
use uuid::Uuid;

use crate::error::{Result, lossy};
use crate::holds;
use crate::index::{Index, Trashed, Volume};
use crate::name::Name;
use crate::pool::place::snapshots_dir;
use crate::pool::{Place, Pool};
use crate::record::{Consistency, Record};
use crate::shares::{Shares, Taken};
use crate::sys::beneath;
use crate::sys::loopdev::{self, Attached, FileId};
use crate::sys::mountinfo;
use crate::usage::Usage;

/// A volume.  Sizes in bytes, times RFC 3339 in UTC, what is not known null.
#[derive(Clone, Debug, Serialize)]
pub struct VolumeReport {
    /// Its name.
    pub name: Name,
    /// Its UUID.
    pub uuid: Uuid,
    /// The UUID of the image that it was cloned from.
    pub parent: Option<Uuid>,
    /// Its size.
    pub size: u64,
    /// What its image takes, blocks shared with snapshots included; null without root.
    pub allocated: Option<u64>,
    /// What deleting it alone would free, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<u64>,
    /// What was written since its newest snapshot, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// The filesystem's type.
    pub fstype: String,
    /// The filesystem's UUID.
    pub fs_uuid: Option<String>,
    /// The filesystem's label.
    pub label: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// `mounted`, `attached` or `detached`; null where it could not be asked.
    pub state: Option<&'static str>,
    /// Its loop device.
    pub device: Option<PathBuf>,
    /// Whether that device bypasses the page cache.
    pub direct_io: Option<bool>,
    /// Where it is mounted.
    pub mountpoints: Vec<String>,
    /// What was set of it.
    pub properties: BTreeMap<String, String>,
    /// Its image's path.
    #[serde(serialize_with = "lossy")]
    pub image: PathBuf,
    /// How many snapshots it has.
    pub snapshot_count: usize,
    /// Its snapshots, oldest first, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Vec<SnapshotReport>>,
}

/// A snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotReport {
    /// Its own name.
    pub name: Name,
    /// `VOLUME@SNAPSHOT`.
    pub full_name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// The UUID of the image that it was cloned from.
    pub parent: Option<Uuid>,
    /// Its size.
    pub size: u64,
    /// What its image takes, shared blocks included; null without root.
    pub allocated: Option<u64>,
    /// What deleting it alone would free, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<u64>,
    /// What was written between the snapshot before and it, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// The filesystem's type.
    pub fstype: String,
    /// When it was taken.
    pub created: Timestamp,
    /// How consistent it is.
    pub consistency: Option<Consistency>,
    /// The UUID of the group that it was taken in.
    pub group: Option<Uuid>,
    /// How long the guest was frozen for it, in microseconds.
    pub frozen_us: Option<u64>,
    /// How many extents it had when it was taken.
    pub extents: Option<u64>,
    /// What was set of it.
    pub properties: BTreeMap<String, String>,
    /// Who wants it kept, by tag: until when, or null.
    pub holds: BTreeMap<String, Option<Timestamp>>,
    /// Its loop device, if it is attached or viewed.
    pub device: Option<PathBuf>,
    /// Where it is viewed.
    pub mountpoints: Vec<String>,
    /// Its image's path.
    #[serde(serialize_with = "lossy")]
    pub image: PathBuf,
}

/// A deleted volume.
#[derive(Clone, Debug, Serialize)]
pub struct TrashReport {
    /// The name by which `undelete` and `purge` know it.
    pub id: String,
    /// The name that it had.
    pub name: Name,
    /// When it was deleted.
    pub deleted: Timestamp,
    /// Its size.
    pub size: u64,
    /// What its image takes; null without root.
    pub allocated: Option<u64>,
    /// The filesystem's type.
    pub fstype: String,
    /// How many snapshots went with it.
    pub snapshot_count: usize,
}

/// A loop device that is bound to something on the pool's filesystem.
#[derive(Debug)]
struct Bound {
    device: Attached,
    /// The UUID of the image that lovol bound it to.
    uuid: Option<Uuid>,
    /// Where sysfs says that its file is: a hint, as paths go stale.
    path: Option<PathBuf>,
}

/// Who can be asked what is attached where.
#[derive(Debug)]
pub struct Reporter<'p> {
    pool: &'p Pool,
    mounts: Usage,
    /// Nothing without root.
    bound: Option<Vec<Bound>>,
}

impl<'p> Reporter<'p> {
    /// Asks the kernel, as far as it answers: without root, only the mount table.
    pub fn new(pool: &'p Pool) -> Self {
        let usage = Usage::look();
        let bound = usage.as_ref().ok().map(|usage| {
            // Views too are on the pool's filesystem, though their files have no name.
            let own = usage
                .devices
                .iter()
                .filter(|device| device.file.device == pool.device());
            own.map(|device| Bound {
                uuid: Uuid::parse_str(&device.reference).ok(),
                path: loopdev::backing_path(device.number),
                device: device.clone(),
            })
            .collect()
        });
        Self {
            pool,
            mounts: usage.unwrap_or_default(),
            bound,
        }
    }

    /// A volume, with its snapshots where they are wanted.
    pub fn volume(&self, name: &Name, volume: &Volume, with_snapshots: bool) -> VolumeReport {
        let Volume {
            record, snapshots, ..
        } = volume;
        let place = Place::volume(name);
        let image = self.pool.full_path(&place);
        let stat = self.look(&place);
        let seen = self.see(&image, record, stat.as_ref());
        VolumeReport {
            name: name.clone(),
            uuid: record.uuid,
            parent: record.parent,
            size: record.size,
            allocated: stat.as_ref().map(allocated),
            exclusive: None,
            written: None,
            fstype: record.fs.to_string(),
            fs_uuid: record.fs_uuid.clone(),
            label: record.label.clone(),
            created: record.created,
            state: seen.state(),
            device: seen.device.as_ref().map(Attached::path),
            direct_io: seen.device.as_ref().map(|device| device.direct_io),
            mountpoints: seen.dirs,
            properties: record.properties.clone(),
            image,
            snapshot_count: snapshots.len(),
            snapshots: with_snapshots.then(|| {
                let dir = self.pool.path().join(snapshots_dir(name));
                let by_age = volume.by_age().into_iter();
                by_age
                    .map(|(snapshot, record)| self.snapshot_in(&dir, name, snapshot, record))
                    .collect()
            }),
        }
    }

    /// What `stat(2)` says of an image; nothing without root, as the directories are root's.
    fn look(&self, place: &Place) -> Option<Stat> {
        let path = place.path();
        let dir = beneath::open_dir(self.pool.dir(), path.parent()?).ok()?;
        look_in(&dir, path.file_name()?)
    }

    /// A snapshot.
    pub fn snapshot(&self, volume: &Name, name: &Name, record: &Record) -> SnapshotReport {
        let dir = self.pool.path().join(snapshots_dir(volume));
        self.snapshot_in(&dir, volume, name, record)
    }

    /// A snapshot is not looked at, as there may be ten thousand of them and none ever changes.
    fn snapshot_in(
        &self,
        dir: &Path,
        volume: &Name,
        name: &Name,
        record: &Record,
    ) -> SnapshotReport {
        let image = dir.join(format!("{name}.img"));
        let seen = self.see(&image, record, None);
        SnapshotReport {
            name: name.clone(),
            full_name: format!("{volume}@{name}"),
            uuid: record.uuid,
            parent: record.parent,
            size: record.size,
            allocated: record.allocated,
            exclusive: None,
            written: None,
            fstype: record.fs.to_string(),
            created: record.created,
            consistency: record.consistency,
            group: record.group,
            frozen_us: record.frozen_us,
            extents: record.extents,
            properties: record.properties.clone(),
            holds: holds::shown(self.pool, record),
            device: seen.device.as_ref().map(Attached::path),
            mountpoints: seen.dirs,
            image,
        }
    }

    /// A deleted volume.
    #[must_use]
    pub fn trashed(&self, id: &str, trashed: &Trashed) -> TrashReport {
        let record = &trashed.volume.record;
        TrashReport {
            id: id.to_owned(),
            name: trashed.name.clone(),
            deleted: trashed.deleted,
            size: record.size,
            allocated: self
                .look(&Place::TrashedVolume(id.to_owned()))
                .map(|stat| allocated(&stat)),
            fstype: record.fs.to_string(),
            snapshot_count: trashed.volume.snapshots.len(),
        }
    }

    /// How an image is used; `stat` where it was looked at.
    fn see(&self, image: &Path, record: &Record, stat: Option<&Stat>) -> Seen {
        let Some(bound) = &self.bound else {
            // A snapshot's view is found by what only root may ask.
            let dirs = if record.volume.is_some() {
                Vec::new()
            } else {
                dirs_by_path(image)
            };
            return Seen {
                is_asked: false,
                device: None,
                dirs,
            };
        };
        let id = stat.map(|stat| FileId {
            device: stat.st_dev,
            inode: stat.st_ino,
        });
        let is_it = |bound: &&Bound| {
            bound.uuid == Some(record.uuid)
                || match id {
                    Some(id) => bound.device.file == id,
                    None => bound.path.as_deref() == Some(image),
                }
        };
        let device = bound.iter().find(is_it).map(|bound| bound.device.clone());
        let mounts = device
            .as_ref()
            .map(|device| self.mounts.mounts_of(device))
            .unwrap_or_default();
        let dirs = mounts
            .iter()
            .map(|mount| mount.dir.to_string_lossy().into_owned())
            .collect();
        Seen {
            is_asked: true,
            device,
            dirs,
        }
    }
}

/// What a file takes, in bytes.
fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

fn look_in(dir: &OwnedFd, name: impl AsRef<Path>) -> Option<Stat> {
    rustix::fs::statat(dir, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).ok()
}

/// What is known of an image's use.
struct Seen {
    is_asked: bool,
    device: Option<Attached>,
    dirs: Vec<String>,
}

impl Seen {
    fn state(&self) -> Option<&'static str> {
        match (self.is_asked, &self.device, self.dirs.is_empty()) {
            (_, _, false) => Some("mounted"),
            (true, Some(_), true) => Some("attached"),
            (true, None, true) => Some("detached"),
            (false, ..) => None,
        }
    }
}

/// Where an image is mounted as far as anyone may see: sysfs names each device's file by its path.
/// For showing only.
fn dirs_by_path(image: &Path) -> Vec<String> {
    let numbers = loopdev::bound_numbers().unwrap_or_default();
    let is_it = |number: &u32| loopdev::backing_path(*number).as_deref() == Some(image);
    let Some(number) = numbers.into_iter().find(is_it) else {
        return Vec::new();
    };
    let mounts = mountinfo::read().unwrap_or_default();
    let source = loopdev::device_path(number);
    let own = mounts.iter().filter(|mount| mount.source == source);
    own.map(|mount| mount.dir.to_string_lossy().into_owned())
        .collect()
}

/// The volumes to report: those named, or all.
pub fn wanted<'i>(index: &'i Index, names: &[Name]) -> Result<Vec<(&'i Name, &'i Volume)>> {
    if names.is_empty() {
        return Ok(index.volumes.iter().collect());
    }
    let found = names.iter().map(|name| {
        index.volume(name)?;
        Ok(index.volumes.get_key_value(name))
    });
    Ok(found
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// What images cost, for columns of `list`: read once for all of them.
#[derive(Debug)]
pub struct Costs<'s> {
    shares: &'s Shares,
    each: BTreeMap<&'s Place, Taken>,
}

impl<'s> Costs<'s> {
    /// Of everything in these.
    #[must_use]
    pub fn new(shares: &'s Shares) -> Self {
        Self {
            shares,
            each: shares.each(),
        }
    }

    /// Fills in what a volume and its snapshots cost.
    pub fn fill_in(&self, report: &mut VolumeReport, volume: &Volume) {
        let name = &report.name;
        let exclusive = |place: &Place| self.each.get(place).map(|taken| taken.exclusive);
        let mut before = None;
        for (snapshot, _) in volume.by_age() {
            let place = Place::snapshot(name, snapshot);
            let reports = report.snapshots.as_deref_mut().unwrap_or_default();
            if let Some(own) = reports.iter_mut().find(|own| own.name == *snapshot) {
                own.exclusive = exclusive(&place);
                own.written = Some(self.shares.written(&place, before.as_ref()));
            }
            before = Some(place);
        }
        let place = Place::volume(name);
        report.exclusive = exclusive(&place);
        report.written = Some(self.shares.written(&place, before.as_ref()));
    }
}
