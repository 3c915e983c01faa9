//! What the pool has, and what it has promised.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::index::Index;
use crate::keep::Keep;
use crate::name::Name;
use crate::pool::lock::Lock;
use crate::pool::{Place, Pool, on_image, settings};
use crate::properties::KEEP;
use crate::prune::{self, Request};
use crate::retention::Policy;
use crate::shares::{Shares, Taken};
use crate::size::Size;

/// In bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Space {
    /// Of the pool's filesystem.
    pub size: u64,
    /// Free on it.
    pub free: u64,
    /// What all images take, each block once.
    pub allocated: u64,
    /// What purging the trash would free.
    pub trash: u64,
    /// The sum of the volumes' sizes.
    pub promised: u64,
    /// What the volumes could still take, if every block of them were written.
    pub claimable: u64,
    /// How many times the size is promised.
    pub overcommit: f64,
    /// Free on the filesystem beneath, where the pool is on a sparse image of its own.
    pub beneath: Option<u64>,
}

impl Space {
    /// Looks.
    pub fn look(pool: &Pool, index: &Index, shares: &Shares) -> Result<Self> {
        let (size, free) = size_and_free(pool)?;
        let all: BTreeSet<Place> = shares.places().cloned().collect();
        let is_trash =
            |place: &&Place| matches!(place, Place::TrashedVolume(_) | Place::TrashedSnapshot(..));
        let trash = all.iter().filter(is_trash).cloned().collect();
        let each = shares.each();
        let claimable = index
            .volumes
            .iter()
            .map(|(name, volume)| volume.record.size.saturating_sub(exclusive(&each, name)));
        let promised = promised(index);
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let overcommit = promised as f64 / size.max(1) as f64;
        Ok(Self {
            size,
            free,
            allocated: shares.taken(&all).allocated,
            trash: shares.taken(&trash).exclusive,
            promised,
            claimable: claimable.sum(),
            overcommit,
            beneath: beneath(pool)?,
        })
    }
}

/// What is free beneath a pool on an image that has not all its blocks yet.
fn beneath(pool: &Pool) -> Result<Option<u64>> {
    let image = on_image::image_beside(pool.path());
    let is_own = on_image::is_mounted(pool.path());
    let Ok(metadata) = image.metadata() else {
        return Ok(None);
    };
    if !is_own || metadata.blocks() * 512 >= metadata.len() {
        return Ok(None);
    }
    let stat = rustix::fs::statvfs(&image).doing("look at", &image)?;
    Ok(Some(stat.f_bavail * stat.f_frsize))
}

/// The snapshots that may be deleted to make room: none that is held, in use, the newest, or kept by
/// its volume's policy.
pub fn candidates(pool: &Pool, index: &Index) -> Result<BTreeSet<Place>> {
    let mut candidates = BTreeSet::new();
    for (name, volume) in &index.volumes {
        let keep = volume.record.properties.get(KEEP);
        let keep = keep
            .and_then(|keep| keep.parse::<Keep>().ok())
            .unwrap_or_default();
        let request = Request {
            volumes: vec![name.clone()],
            policy: Some(Policy::from(keep)),
            named: keep == Keep::default(),
            local: false,
        };
        let (verdicts, _) = prune::judge(pool, index, &request)?;
        let going = verdicts.into_iter().filter(prune::Verdict::goes);
        candidates.extend(going.map(|verdict| Place::Snapshot(verdict.name)));
    }
    Ok(candidates)
}

/// What is asked of the pool's space.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    /// A volume that may come to take so many bytes more than now.
    Volume(u64),
    /// A clone of this volume, of so many bytes.
    Clone(&'a Name, u64),
    /// Snapshots of these volumes: whatever they have is to be kept when it is overwritten.
    Snapshots(&'a [Name]),
}

/// Room that is claimed: under a policy, no other lovol claims any until this is dropped.  Whoever claims
/// keeps it until the index says what has become of it, or two at once would be promised the same room.
#[must_use = "others may claim the same room when it is dropped"]
#[derive(Debug)]
pub struct Claimed {
    _lock: Option<Lock>,
}

/// Refuses what the pool's settings `reserve` and `overcommit` do not allow.
pub fn must_allow(pool: &Pool, what: &str, claim: Claim<'_>) -> Result<Claimed> {
    let refuse = |why: String, hint: &str| Err(Error::refused(what, why).with_hint(hint));
    let (size, free) = size_and_free(pool)?;
    let reserve = settings::amount(pool, settings::RESERVE).map_or(0, |amount| amount.of(size));
    if free < reserve {
        return refuse(
            format!(
                "the pool has {} free, and {} of it is its reserve",
                Size(free),
                Size(reserve)
            ),
            "make room ('lovol df --plan-free', 'lovol trim --all', 'lovol purge --all'), or 'lovol set reserve='",
        );
    }
    let policy = settings::get(pool, settings::OVERCOMMIT);
    if policy == settings::ANY {
        return Ok(Claimed { _lock: None });
    }
    let lock = Lock::of_claims(pool)?;
    let index = pool.index()?;
    if let Ok(factor) = settings::parse_factor(&policy) {
        let more = match claim {
            Claim::Volume(more) | Claim::Clone(_, more) => more,
            Claim::Snapshots(_) => 0,
        };
        let promised = promised(&index).saturating_add(more);
        if more > 0 && promised > multiplied(size, factor) {
            return refuse(
                format!(
                    "{} would be promised, more than {factor} times the pool's {}",
                    Size(promised),
                    Size(size)
                ),
                "'lovol set overcommit=' raises what may be promised",
            );
        }
    } else {
        let shares = Shares::read(pool, &index)?;
        let worst = worst_case(pool, &index, &shares)?;
        let worst = worst.saturating_add(claim_of(&index, &shares, claim));
        if worst > free {
            return refuse(
                format!(
                    "volumes could come to take {}, and {} is free",
                    Size(worst),
                    Size(free)
                ),
                "the pool is to promise no more than it has: make room ('lovol df --plan-free', 'lovol trim --all', 'lovol purge --all'), or 'lovol set overcommit=any'",
            );
        }
    }
    Ok(Claimed { _lock: Some(lock) })
}

/// How much larger volumes may become, in bytes, by the pool's setting `overcommit`.
pub fn left_to_promise(pool: &Pool) -> Result<u64> {
    let (size, free) = size_and_free(pool)?;
    let policy = settings::get(pool, settings::OVERCOMMIT);
    if policy == settings::ANY {
        return Ok(u64::MAX);
    }
    let index = pool.index()?;
    if let Ok(factor) = settings::parse_factor(&policy) {
        return Ok(multiplied(size, factor).saturating_sub(promised(&index)));
    }
    let shares = Shares::read(pool, &index)?;
    let left = free.saturating_sub(worst_case(pool, &index, &shares)?);
    // What names the extents is of it as well: `with_metadata` of the result is no more than this.
    Ok(left - left.div_ceil(128))
}

fn size_and_free(pool: &Pool) -> Result<(u64, u64)> {
    let stat = rustix::fs::fstatvfs(pool.dir()).doing("look at", pool.path())?;
    Ok((stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize))
}

fn promised(index: &Index) -> u64 {
    let sizes = index.volumes.values().map(|volume| volume.record.size);
    sizes.sum()
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes far from 2^52 blocks, and a factor above 0; what is too large becomes the most there is"
)]
fn multiplied(size: u64, factor: f64) -> u64 {
    (factor * size as f64) as u64
}

/// What the volumes could still take, with what names the extents of what is there.
fn worst_case(pool: &Pool, index: &Index, shares: &Shares) -> Result<u64> {
    let space = Space::look(pool, index, shares)?;
    let metadata = with_metadata(space.promised) - space.promised;
    Ok(space.claimable.saturating_add(metadata))
}

/// How much more could be taken in the worst case.
fn claim_of(index: &Index, shares: &Shares, claim: Claim<'_>) -> u64 {
    let each = shares.each();
    match claim {
        Claim::Volume(bytes) => with_metadata(bytes),
        Claim::Clone(from, bytes) => with_metadata(bytes) + exclusive(&each, from),
        Claim::Snapshots(names) => {
            // Each is to have its own blocks that name its extents.
            let size = |name: &Name| {
                index
                    .volumes
                    .get(name)
                    .map_or(0, |volume| volume.record.size)
            };
            names
                .iter()
                .map(|name| exclusive(&each, name) + size(name) / 128)
                .sum()
        }
    }
}

/// What a volume alone has.
fn exclusive(each: &BTreeMap<&Place, Taken>, name: &Name) -> u64 {
    each.get(&Place::volume(name))
        .map_or(0, |taken| taken.exclusive)
}

/// With what names the extents, where every block is one: 16 of 4096 bytes for each, in blocks that may
/// be half full (fs/xfs/libxfs/xfs_bmap_btree.h).
fn with_metadata(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 128)
}
