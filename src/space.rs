//! What the pool has, and what it has promised.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::os::unix::fs::MetadataExt;

use serde::Serialize;
use uuid::Uuid;

use crate::claims::{self, Claimed};
use crate::error::{Context, Error, Result};
use crate::index::{Index, Volume};
use crate::keep::Keep;
use crate::name::Name;
use crate::plan::Observer;
use crate::pool::lock::Lock;
use crate::pool::settings::{self, Overcommit};
use crate::pool::{Place, Pool, on_image};
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

/// Snapshots that may be deleted to make room.
#[derive(Debug, Default)]
pub struct Candidates {
    /// All of them.
    pub places: BTreeSet<Place>,
    /// Those of them that were taken at one instant, and so go together.
    pub instants: Vec<BTreeSet<Place>>,
}

impl Candidates {
    /// None that is held, in use, the newest, or kept by its volume's policy.
    pub fn find(pool: &Pool, index: &Index) -> Result<Self> {
        let request = |(name, volume): (&Name, &Volume)| {
            let keep = volume.record.properties.get(KEEP);
            let keep = keep
                .and_then(|keep| keep.parse::<Keep>().ok())
                .unwrap_or_default();
            Request {
                volumes: vec![name.clone()],
                policy: Some(Policy::from(keep)),
                named: keep == Keep::default(),
                local: false,
            }
        };
        let requests: Vec<Request> = index.volumes.iter().map(request).collect();
        let (verdicts, _) = prune::judge_all(pool, index, &requests)?;
        let mut candidates = Self::default();
        let mut instants: BTreeMap<Uuid, BTreeSet<Place>> = BTreeMap::new();
        for verdict in verdicts.into_iter().filter(prune::Verdict::goes) {
            let place = Place::Snapshot(verdict.name);
            if let Some(group) = verdict.group {
                instants.entry(group).or_default().insert(place.clone());
            }
            candidates.places.insert(place);
        }
        candidates.instants = instants.into_values().collect();
        Ok(candidates)
    }
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
    /// The same for a volume that goes back to one, and has so many bytes more then.
    Rollback(&'a Name, u64),
    /// A volume of `size` bytes of which `has` are in the pool's filesystem already.
    Moved {
        /// All of it.
        size: u64,
        /// What it takes now.
        has: u64,
    },
    /// What lies in the trash, and has so many bytes.
    Back(&'a Place, u64),
}

impl Claim<'_> {
    /// The bytes that are promised beside those of the volumes there are.
    fn promise(self) -> u64 {
        match self {
            Self::Volume(bytes)
            | Self::Clone(_, bytes)
            | Self::Rollback(_, bytes)
            | Self::Moved { size: bytes, .. }
            | Self::Back(_, bytes) => bytes,
            Self::Snapshots(_) => 0,
        }
    }

    /// Whether it adds to what is there: to get back what one had is not refused for want of room.
    fn heeds_reserve(self) -> bool {
        matches!(self, Self::Volume(_) | Self::Clone(..) | Self::Snapshots(_))
    }

    /// How much more could be taken in the worst case.
    fn worst_case(self, index: &Index, shares: &Shares) -> u64 {
        let each = shares.each();
        let exclusive = |place: &Place| each.get(place).map_or(0, |taken| taken.exclusive);
        // Each is to have its own blocks that name its extents.
        let kept = |name: &Name| {
            let volume = index.volumes.get(name);
            exclusive(&Place::volume(name)) + volume.map_or(0, |volume| volume.record.size / 128)
        };
        match self {
            Self::Volume(bytes) => with_metadata(bytes),
            Self::Clone(from, bytes) => {
                with_metadata(bytes).saturating_add(exclusive(&Place::volume(from)))
            }
            Self::Snapshots(names) => names.iter().map(kept).sum(),
            Self::Rollback(name, bytes) => kept(name).saturating_add(with_metadata(bytes)),
            Self::Moved { size, has } => with_metadata(size).saturating_sub(has),
            Self::Back(place, bytes) => with_metadata(bytes).saturating_sub(exclusive(place)),
        }
    }
}

/// Refuses what the pool's settings `reserve` and `overcommit` do not allow.  Whoever claims keeps it until
/// the index says what has become of it.
pub fn must_allow(pool: &Pool, what: &str, claim: Claim<'_>) -> Result<Claimed> {
    let refuse = |why: String, hint: &str| Err(Error::refused(what, why).with_hint(hint));
    let (size, free) = size_and_free(pool)?;
    let reserve = settings::amount(pool, settings::RESERVE).map_or(0, |amount| amount.of(size));
    if free < reserve && claim.heeds_reserve() {
        return refuse(
            format!(
                "the pool has {} free, and {} of it is its reserve",
                Size(free),
                Size(reserve)
            ),
            "make room ('lovol df --plan-free', 'lovol trim --all', 'lovol purge --all'), or 'lovol set reserve=none'",
        );
    }
    let policy = settings::overcommit(pool);
    match policy {
        Overcommit::Any => return Ok(Claimed::default()),
        Overcommit::Factor(_) if claim.promise() == 0 => return Ok(Claimed::default()),
        Overcommit::Factor(_) | Overcommit::None => {}
    }
    let _deciding = Lock::of_claims(pool)?;
    let promise = Promise::look(pool, policy)?;
    let more = match &promise.shares {
        None => claim.promise(),
        Some(shares) => claim.worst_case(&promise.index, shares),
    };
    if more <= promise.most.saturating_sub(promise.given) {
        return Claimed::note(pool, more);
    }
    let (all, most) = (Size(promise.given.saturating_add(more)), Size(promise.most));
    match policy {
        Overcommit::Factor(factor) => refuse(
            format!(
                "{all} would be promised, more than {factor} times the pool's {}",
                Size(size)
            ),
            "'lovol set overcommit=' raises what may be promised",
        ),
        _ => refuse(
            format!("volumes could come to take {all}, and {most} is free"),
            "the pool is to promise no more than it has: make room ('lovol df --plan-free', 'lovol trim --all', 'lovol purge --all'), or 'lovol set overcommit=any'",
        ),
    }
}

/// How much larger volumes may become, in bytes, by the pool's setting `overcommit`.
pub fn left_to_promise(pool: &Pool) -> Result<u64> {
    let policy = settings::overcommit(pool);
    if policy == Overcommit::Any {
        return Ok(u64::MAX);
    }
    // Who looks at claims must not come upon one that is being made.
    let _deciding = Lock::of_claims(pool)?;
    let promise = Promise::look(pool, policy)?;
    let left = promise.most.saturating_sub(promise.given);
    Ok(match policy {
        // What names the extents is of it as well: `with_metadata` of the result is no more than this.
        Overcommit::None => left - left.div_ceil(128),
        _ => left,
    })
}

/// What a pool may promise by its policy, and what it has, to others who are at work as well.
struct Promise {
    most: u64,
    given: u64,
    index: Index,
    /// Where each block counts.
    shares: Option<Shares>,
}

impl Promise {
    fn look(pool: &Pool, policy: Overcommit) -> Result<Self> {
        // Only now: others may have made something while their claims were waited for.
        let (size, free) = size_and_free(pool)?;
        let index = pool.index()?;
        let others = claims::others(pool)?;
        if let Overcommit::Factor(factor) = policy {
            return Ok(Self {
                most: multiplied(size, factor),
                given: promised(&index).saturating_add(others),
                index,
                shares: None,
            });
        }
        let shares = Shares::read(pool, &index)?;
        Ok(Self {
            most: free,
            given: worst_case(pool, &index, &shares)?.saturating_add(others),
            index,
            shares: Some(shares),
        })
    }
}

/// Says so of a volume that is larger than its pool: the pool may grow, but until then the guest has
/// I/O errors where it thinks that it has room.
///
/// # Errors
/// When the pool's filesystem cannot be looked at.
pub fn warn_if_larger(
    pool: &Pool,
    volume: impl Display,
    size: u64,
    observer: &dyn Observer,
) -> Result<()> {
    let (all, _) = size_and_free(pool)?;
    if size > all {
        observer.warn(&format!(
            "{volume} may come to take {}, and the pool has {} in all: 'lovol watch' helps before it is full",
            Size(size),
            Size(all)
        ));
    }
    Ok(())
}

/// Of the pool's filesystem, in bytes.
pub fn size_and_free(pool: &Pool) -> Result<(u64, u64)> {
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
