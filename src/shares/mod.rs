//! Who shares what: how much of the pool would be free without some of its images.
//!
//! The extent maps of all images are read side by side, in the order of the files' bytes.  Images that
//! share a block have it at the same place of the file, as clones and snapshots have; so at each place
//! those with the same block on the device are its owners, and what counts are the bytes of each set of
//! owners: of all the pool that is all that need be kept.
//!
//! ```text
//! home     |---- A ----|-- B --|---- C ----|     {home}: C   {home, home@b}: B
//! home@b   |---- A ----|-- B --|---- D ----|     {home@b}: D
//! home@a   |---- A ----|-- E --|                 {home, home@a, home@b}: A   {home@a}: E
//! ```
//! A block with one owner that the filesystem calls shared (`FIEMAP_EXTENT_SHARED`) belongs to a file
//! that lovol does not know, too.  What several images share with such a file cannot be told apart, and
//! counts as theirs.
//!
//! On XFS it is exact: data, and the blocks that name a file's extents, which are what `st_blocks` has
//! more than is mapped.  On btrfs extents are freed as a whole, when nobody has any part of them, so
//! that less may come free.

pub(crate) mod cache;
mod merge;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::fragments::XFS_SUPER_MAGIC;
use crate::index::Index;
use crate::pool::place::records;
use crate::pool::{Place, Pool};
use crate::shares::cache::{Cached, Key};
use crate::shares::merge::{Source, merge};

/// What some images take, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// All of it, each block once.
    pub allocated: u64,
    /// What would be free without them.
    pub exclusive: u64,
    /// What other images of the pool have, too.
    pub shared: u64,
    /// What files have that lovol does not know.
    pub foreign: u64,
}

/// An image of the pool.
#[derive(Debug)]
struct Image {
    place: Place,
    /// What names its extents, in bytes.
    metadata: u64,
}

/// The bytes of a set of owners.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    own: u64,
    foreign: u64,
}

/// So many sets of owners are considered together, or it would take minutes.
const GROUPS: usize = 1000;

/// Images by their numbers, in order.
type Owners = Box<[u32]>;

/// Who shares what in a pool, at one moment if nobody writes.
#[derive(Debug, Default)]
pub struct Shares {
    images: Vec<Image>,
    sets: HashMap<Owners, Bytes>,
}

impl Shares {
    /// Reads the maps of all images, deleted volumes' as well.  Needs root.
    pub fn read(pool: &Pool, index: &Index) -> Result<Self> {
        let mut files: Vec<(Place, File, Metadata)> = Vec::new();
        for place in records(index).into_keys() {
            if let Some(file) = open(pool, &place)? {
                let metadata = file.metadata().doing("look at", pool.full_path(&place))?;
                files.push((place, file, metadata));
            }
        }
        let keys = files.iter().map(|(place, _, metadata)| {
            let key = place.is_snapshot().then(|| Key::from(metadata));
            key.unwrap_or_default()
        });
        let keys: Vec<Key> = keys.collect();
        let sources: Vec<Source<'_>> = files
            .iter()
            .map(|(place, file, _)| Source {
                file,
                is_immutable: place.is_snapshot(),
            })
            .collect();
        // A balance of btrfs moves blocks of files that it does not touch otherwise.
        let stays =
            rustix::fs::fstatfs(pool.dir()).is_ok_and(|stat| stat.f_type == XFS_SUPER_MAGIC);
        let cached = if stays {
            cache::load(pool, &keys)
        } else {
            Cached::default()
        };
        let merged = merge(&sources, cached).doing("read the extents of", pool.path())?;
        let known: Vec<(Key, u64)> = keys
            .into_iter()
            .zip(merged.mapped.iter().copied())
            .collect();
        if stays {
            cache::save(pool, &known, &merged.kept);
        }
        let images = files
            .iter()
            .zip(&merged.mapped)
            .map(|((place, file, _), mapped)| {
                // Once more: what the volume's blocks were before its map was read is not comparable.
                let blocks = file.metadata().map_or(0, |metadata| metadata.blocks());
                Image {
                    place: place.clone(),
                    metadata: (blocks * 512).saturating_sub(*mapped),
                }
            });
        Ok(Self {
            images: images.collect(),
            sets: merged.sets,
        })
    }

    /// What these images take.
    pub fn taken(&self, places: &BTreeSet<Place>) -> Taken {
        let members: Vec<bool> = self
            .images
            .iter()
            .map(|image| places.contains(&image.place))
            .collect();
        let is_member = |owner: &u32| is_in(&members, *owner);
        let own = self
            .images
            .iter()
            .zip(&members)
            .filter(|(_, is_member)| **is_member);
        let metadata = own.map(|(image, _)| image.metadata).sum();
        let mut taken = Taken {
            exclusive: metadata,
            ..Taken::default()
        };
        for (owners, bytes) in &self.sets {
            if owners.iter().all(is_member) {
                taken.exclusive += bytes.own;
                taken.foreign += bytes.foreign;
            } else if owners.iter().any(is_member) {
                taken.shared += bytes.own;
            }
        }
        taken.allocated = taken.exclusive + taken.shared + taken.foreign;
        taken
    }

    /// What this image has that the other, if there is one, has not: for a snapshot and the one before,
    /// what was written between them.
    pub fn written(&self, place: &Place, before: Option<&Place>) -> u64 {
        let number = |wanted: &Place| self.images.iter().position(|image| image.place == *wanted);
        let has = |owners: &Owners, number: Option<usize>| {
            number.is_some_and(|number| {
                owners
                    .iter()
                    .any(|owner| usize::try_from(*owner) == Ok(number))
            })
        };
        let (own, before) = (number(place), before.and_then(number));
        let sets = self.sets.iter();
        let new = sets.filter(|(owners, _)| has(owners, own) && !has(owners, before));
        new.map(|(_, bytes)| bytes.own + bytes.foreign).sum()
    }

    /// Some of these images without which at least so many bytes would be free: few of them, found by
    /// taking each time what gives most for each image.  Those of one of the `instants` are taken
    /// together.  Fewer bytes where all do not give so many.
    pub fn plan_free(
        &self,
        wanted: u64,
        candidates: &BTreeSet<Place>,
        instants: &[BTreeSet<Place>],
    ) -> BTreeSet<Place> {
        let is_candidate = |image: &Image| candidates.contains(&image.place);
        let may_go: Vec<bool> = self.images.iter().map(is_candidate).collect();
        let mut chosen = vec![false; self.images.len()];
        let together: Vec<Vec<usize>> = instants.iter().map(|own| self.positions(own)).collect();
        let mut groups = self.groups(&may_go, &chosen);
        while self.freed(&chosen) < wanted && !groups.is_empty() {
            let gain = |owners: &&&Owners| self.gain(&chosen, owners);
            let Some(best) = groups.iter().max_by_key(gain) else {
                break;
            };
            chosen = with(&chosen, best);
            for own in &together {
                if own.iter().any(|at| chosen[*at]) {
                    for at in own {
                        chosen[*at] = true;
                    }
                }
            }
            groups.retain(|owners| !has_all(&chosen, owners));
            if groups.is_empty() {
                groups = self.groups(&may_go, &chosen);
            }
        }
        let images = self.images.iter().zip(chosen);
        images
            .filter(|(_, is_chosen)| *is_chosen)
            .map(|(image, _)| image.place.clone())
            .collect()
    }

    fn positions(&self, places: &BTreeSet<Place>) -> Vec<usize> {
        let images = self.images.iter().enumerate();
        let own = images.filter(|(_, image)| places.contains(&image.place));
        own.map(|(at, _)| at).collect()
    }

    /// The sets of images that may go, and that have the most for each of them.
    fn groups(&self, may_go: &[bool], chosen: &[bool]) -> Vec<&Owners> {
        let is_one = |owners: &Owners| has_all(may_go, owners) && !has_all(chosen, owners);
        let sets = self.sets.iter();
        let mut groups: Vec<_> = sets.filter(|(owners, _)| is_one(owners)).collect();
        let each = |(owners, bytes): &(&Owners, &Bytes)| {
            let count = u64::try_from(owners.len()).unwrap_or(u64::MAX);
            bytes.own / count.max(1)
        };
        groups.sort_by(|one, other| each(other).cmp(&each(one)).then(one.0.cmp(other.0)));
        groups.truncate(GROUPS);
        groups.into_iter().map(|(owners, _)| owners).collect()
    }

    fn freed(&self, chosen: &[bool]) -> u64 {
        let images = self.images.iter().zip(chosen);
        let own = images.filter(|(_, is_chosen)| **is_chosen);
        let metadata: u64 = own.map(|(image, _)| image.metadata).sum();
        let sets = self.sets.iter();
        let gone = sets.filter(|(owners, _)| has_all(chosen, owners));
        metadata + gone.map(|(_, bytes)| bytes.own).sum::<u64>()
    }

    /// What taking these as well gives, for each of them.
    fn gain(&self, chosen: &[bool], owners: &Owners) -> u64 {
        let more = owners.iter().filter(|owner| !is_in(chosen, **owner));
        let more = u64::try_from(more.count()).unwrap_or(u64::MAX).max(1);
        (self.freed(&with(chosen, owners)) - self.freed(chosen)) / more
    }

    /// The images, for sums over some of them.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.images.iter().map(|image| &image.place)
    }

    /// What each image alone takes: as [`Shares::taken`] of it, for all at once.
    pub fn each(&self) -> BTreeMap<&Place, Taken> {
        let mut each: Vec<Taken> = self
            .images
            .iter()
            .map(|image| Taken {
                allocated: image.metadata,
                exclusive: image.metadata,
                ..Taken::default()
            })
            .collect();
        for (owners, bytes) in &self.sets {
            for owner in owners {
                let Some(taken) = usize::try_from(*owner).ok().and_then(|at| each.get_mut(at))
                else {
                    continue;
                };
                taken.allocated += bytes.own + bytes.foreign;
                if owners.len() == 1 {
                    taken.exclusive += bytes.own;
                    taken.foreign += bytes.foreign;
                } else {
                    taken.shared += bytes.own;
                }
            }
        }
        self.places().zip(each).collect()
    }
}

fn has_all(members: &[bool], owners: &Owners) -> bool {
    owners.iter().all(|owner| is_in(members, *owner))
}

/// These and those.
fn with(members: &[bool], owners: &Owners) -> Vec<bool> {
    let mut all = members.to_vec();
    for owner in owners {
        if let Some(member) = usize::try_from(*owner).ok().and_then(|at| all.get_mut(at)) {
            *member = true;
        }
    }
    all
}

fn is_in(members: &[bool], owner: u32) -> bool {
    usize::try_from(owner)
        .ok()
        .and_then(|owner| members.get(owner))
        .is_some_and(|is_member| *is_member)
}

/// Opens an image to ask for its map; `None` where it is not there, which is for `check` to say.
fn open(pool: &Pool, place: &Place) -> Result<Option<File>> {
    let mut tries = 0;
    loop {
        match pool.open_image(place, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
            Err(Error::NotFound { .. }) => return Ok(None),
            // Somebody holds a lease on it, for a moment.
            Err(error) if error.errno() == Some(libc::EWOULDBLOCK) && tries < 100 => tries += 1,
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
