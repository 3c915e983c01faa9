//! Giving back to the pool what a guest does not use any more.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use serde::Serialize;

use crate::error::{Context, Result};
use crate::guest::Fs;
use crate::guest::write_back;
use crate::index::Index;
use crate::mounting::Image;
use crate::name::Name;
use crate::plan::{Observer, Step};
use crate::pool::{Place, Pool};
use crate::properties::TRIM;
use crate::sys::ioctl;
use crate::sys::mountinfo::MountEntry;
use crate::usage::Usage;

/// What trimming gave back, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Trimmed {
    /// The volume.
    pub name: Name,
    /// What its image takes less than before.
    pub unmapped: u64,
    /// What the pool has more free than before.
    pub freed: u64,
    /// What is still there, as snapshots or clones have it, too.
    pub pinned: u64,
}

/// The volumes that are trimmed where none is named: those with a filesystem that is known, but for
/// those with the property `trim=off`.
pub fn wanted(index: &Index) -> Vec<Name> {
    let wanted = index.volumes.iter().filter(|(_, volume)| {
        let record = &volume.record;
        let is_known = matches!(record.fs, Fs::Xfs | Fs::Ext4 | Fs::Btrfs);
        is_known
            && record
                .properties
                .get(TRIM)
                .is_none_or(|value| value != "off")
    });
    wanted.map(|(name, _)| name.clone()).collect()
}

/// Whether a volume is mounted, and so that it can be trimmed there.
pub fn is_mounted(pool: &Pool, usage: &Usage, name: &Name) -> Result<bool> {
    any_mount(pool, usage, name, |entry| !entry.is_filesystem_read_only())
}

/// Whether it is mounted read-only, and so cannot be trimmed now.
pub fn is_read_only(pool: &Pool, usage: &Usage, name: &Name) -> Result<bool> {
    any_mount(pool, usage, name, MountEntry::is_filesystem_read_only)
}

fn any_mount(
    pool: &Pool,
    usage: &Usage,
    name: &Name,
    is_it: impl FnMut(&MountEntry) -> bool,
) -> Result<bool> {
    let id = pool.image_id(&Place::volume(name))?;
    let mut mounts = usage
        .devices_of(id)
        .flat_map(|device| usage.mounts_of(device));
    Ok(mounts.any(is_it))
}

/// What [`trim`] does.
pub fn step(name: &Name) -> Step {
    Step::Trim {
        image: Place::volume(name).path(),
    }
}

/// Trims the filesystem in a volume, mounted or not.
pub fn trim(pool: &Pool, name: &Name, observer: &dyn Observer) -> Result<Trimmed> {
    let place = Place::volume(name);
    let image = Image::open(pool, &place)?;
    let guest = image.open_guest(observer)?;
    observer.begin(&step(name));
    let measured = trim_root(pool, &place, &guest.root, observer);
    // Closed, and its device waited for, also where trimming failed.
    let closed = guest.close();
    let (before, after) = measured?;
    closed?;
    let unmapped = before.allocated.saturating_sub(after.allocated);
    // Others write to the pool meanwhile.
    let freed = after.free.saturating_sub(before.free).min(unmapped);
    Ok(Trimmed {
        name: name.clone(),
        unmapped,
        freed,
        pinned: unmapped - freed,
    })
}

/// What the pool had before it and has after it.
fn trim_root(
    pool: &Pool,
    place: &Place,
    root: &OwnedFd,
    observer: &dyn Observer,
) -> Result<(Measured, Measured)> {
    // What waits to be written back would count as free.
    write_back(root, &place.target(), observer)?;
    let before = Measured::of(pool, place)?;
    ioctl::trim(root).doing("trim", place.target())?;
    Ok((before, Measured::of(pool, place)?))
}

struct Measured {
    allocated: u64,
    free: u64,
}

impl Measured {
    fn of(pool: &Pool, place: &Place) -> Result<Self> {
        rustix::fs::syncfs(pool.dir()).doing("write back", pool.path())?;
        let stat = rustix::fs::fstatvfs(pool.dir()).doing("look at", pool.path())?;
        Ok(Self {
            allocated: pool.look_at(place)?.blocks() * 512,
            free: stat.f_bfree * stat.f_frsize,
        })
    }
}
