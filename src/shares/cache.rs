//! What was read before of the maps of images that never change: `POOL/shares`.
//!
//! ```text
//! all numbers of 8 bytes, the lowest byte first
//! magic
//! images    count; inode, change time (s, ns), size, mapped bytes of each
//! sets      count; how many owners and which images, of each
//! segments  count; logical, physical, length, set of each, in the order of logical
//! sum       of all bytes before: a file that was cut off is none
//! ```
//! An image is known again by its inode, its change time and its size; of another nothing is believed.
//! Losing the file only takes time.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::pool::Pool;
use crate::shares::Owners;
use crate::sys::beneath;

/// Its name in the pool.
pub(crate) const NAME: &str = "shares";

/// `lovolsh` and the version of the form.
const MAGIC: u64 = 0x0168_736c_6f76_6f6c;

/// A piece and the number of the set that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) length: u64,
    pub(super) owners: u32,
}

/// By what an image is known again; the default is no image's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    inode: u64,
    changed: (u64, u64),
    size: u64,
}

impl From<&Metadata> for Key {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            changed: (
                metadata.ctime().unsigned_abs(),
                metadata.ctime_nsec().unsigned_abs(),
            ),
            size: metadata.len(),
        }
    }
}

/// What is known of today's images, by their numbers of today.
#[derive(Debug, Default)]
pub(super) struct Cached {
    pub(super) segments: Vec<Segment>,
    pub(super) sets: Vec<Owners>,
    /// Of the images that are known.
    pub(super) mapped: HashMap<u32, u64>,
}

/// Segments to be kept, and their sets.
#[derive(Debug, Default)]
pub(super) struct Kept {
    segments: Vec<Segment>,
    sets: Vec<Owners>,
    numbers: HashMap<Owners, u32>,
}

/// Beyond so many segments nothing is kept: the file would be larger than what it saves.
const MOST: usize = 4 << 20;

impl Kept {
    /// Adds the next one.
    pub(super) fn add(&mut self, owners: Owners, (logical, physical, length): (u64, u64, u64)) {
        if self.segments.len() > MOST {
            return;
        }
        let sets = &mut self.sets;
        let number = *self.numbers.entry(owners).or_insert_with_key(|owners| {
            sets.push(owners.clone());
            u32::try_from(sets.len() - 1).unwrap_or(u32::MAX)
        });
        self.segments.push(Segment {
            logical,
            physical,
            length,
            owners: number,
        });
    }
}

/// Reads what is known of these images; nothing where there is nothing that can be believed.
pub(super) fn load(pool: &Pool, images: &[Key]) -> Cached {
    read(pool)
        .ok()
        .and_then(|bytes| parse(&bytes, images))
        .unwrap_or_default()
}

fn read(pool: &Pool) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    beneath::open_ours(pool.dir(), NAME, pool.device(), OFlags::RDONLY)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Words<'b>(std::slice::ChunksExact<'b, u8>);

impl Words<'_> {
    fn next(&mut self) -> Option<u64> {
        let bytes = self.0.next()?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// A number of things of which each takes some words: never more than there are.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.next()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }
}

fn parse(bytes: &[u8], images: &[Key]) -> Option<Cached> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    if sum_of(body).to_le_bytes() != *sum {
        return None;
    }
    let today: HashMap<&Key, u32> = images.iter().zip(0..).collect();
    let mut words = Words(body.chunks_exact(8));
    if words.next()? != MAGIC {
        return None;
    }
    let mut cached = Cached::default();
    let mut number_of = Vec::new();
    for _ in 0..words.count()? {
        let key = Key {
            inode: words.next()?,
            changed: (words.next()?, words.next()?),
            size: words.next()?,
        };
        let mapped = words.next()?;
        let number = today.get(&key).copied();
        let number = number.filter(|_| key != Key::default());
        number_of.push(number);
        cached.mapped.extend(number.map(|number| (number, mapped)));
    }
    for _ in 0..words.count()? {
        let mut owners = Vec::new();
        for _ in 0..words.count()? {
            let old = usize::try_from(words.next()?).ok()?;
            owners.extend(*number_of.get(old)?);
        }
        owners.sort_unstable();
        cached.sets.push(owners.into_boxed_slice());
    }
    let mut before = 0;
    for _ in 0..words.count()? {
        let segment = Segment {
            logical: words.next()?,
            physical: words.next()?,
            length: words.next()?,
            owners: words.next()?.try_into().ok()?,
        };
        let owners = cached.sets.get(usize::try_from(segment.owners).ok()?)?;
        if segment.logical < before {
            return None;
        }
        before = segment.logical;
        if !owners.is_empty() {
            cached.segments.push(segment);
        }
    }
    Some(cached)
}

/// Keeps it for the next time; where that cannot be, so be it.
pub(super) fn save(pool: &Pool, images: &[(Key, u64)], kept: &Kept) {
    if kept.segments.len() <= MOST {
        drop(write(pool, &bytes_of(images, kept)));
    }
}

fn write(pool: &Pool, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = beneath::unnamed(pool.dir())?;
    file.write_all(bytes)?;
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    drop(beneath::unlink(pool.dir(), Path::new(NAME)));
    // Another lovol may have been quicker: then its own is as good.
    beneath::link(&file, pool.dir(), NAME)
}

fn bytes_of(images: &[(Key, u64)], kept: &Kept) -> Vec<u8> {
    let mut words = vec![MAGIC, count(images.len())];
    for (key, mapped) in images {
        words.extend([key.inode, key.changed.0, key.changed.1, key.size, *mapped]);
    }
    words.push(count(kept.sets.len()));
    for owners in &kept.sets {
        words.push(count(owners.len()));
        words.extend(owners.iter().map(|owner| u64::from(*owner)));
    }
    words.push(count(kept.segments.len()));
    for segment in &kept.segments {
        let Segment {
            logical,
            physical,
            length,
            owners,
        } = *segment;
        words.extend([logical, physical, length, owners.into()]);
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    let sum = sum_of(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Fowler, Noll and Vo's sum (FNV-1a), over words: a write that was cut off is found by it.
fn sum_of(bytes: &[u8]) -> u64 {
    bytes
        .chunks_exact(8)
        .fold(0xcbf2_9ce4_8422_2325, |sum, word| {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> Key {
        Key {
            inode,
            changed: (1, 2),
            size: 4096,
        }
    }

    #[test]
    fn what_is_written_is_read_again_for_the_images_that_are_left() {
        let mut kept = Kept::default();
        kept.add([0, 1].into(), (0, 100, 10));
        kept.add([1].into(), (10, 200, 5));
        kept.add([0, 1].into(), (20, 300, 5));
        let bytes = bytes_of(&[(key(7), 15), (key(8), 20)], &kept);
        // The one with inode 7 is gone, and another came before.
        let cached = parse(&bytes, &[key(9), key(8)]).expect("well-formed");
        assert_eq!(cached.mapped, [(1, 20)].into());
        let read: Vec<_> = cached
            .segments
            .iter()
            .map(|segment| (segment.logical, &*cached.sets[segment.owners as usize]))
            .collect();
        assert_eq!(read, [(0, &[1][..]), (10, &[1]), (20, &[1])]);
        // Of images that are all others nothing is believed.
        let none = parse(&bytes, &[key(9)]).expect("well-formed");
        assert!(none.segments.is_empty() && none.mapped.is_empty());
    }

    #[test]
    fn what_is_damaged_is_not_believed() {
        let mut kept = Kept::default();
        kept.add([0].into(), (0, 100, 10));
        let bytes = bytes_of(&[(key(7), 10)], &kept);
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length], &[key(7)]).is_none(), "{length}");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(parse(&other, &[key(7)]).is_none(), "{at}");
        }
    }

    proptest::proptest! {
        /// With the right sum, as its writer may have been wrong, or another version's.
        #[test]
        fn whatever_it_holds_it_is_in_order_or_not_believed(
            words in proptest::collection::vec(0_u64..6, 0..60),
        ) {
            let mut bytes = MAGIC.to_le_bytes().to_vec();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend(sum_of(&bytes).to_le_bytes());
            let images = [key(1), Key { inode: 1, changed: (1, 1), size: 1 }];
            if let Some(cached) = parse(&bytes, &images) {
                assert!(cached.segments.is_sorted_by_key(|segment| segment.logical));
                let owners = |segment: &Segment| &cached.sets[segment.owners as usize];
                let are_today = |segment| owners(segment).iter().all(|owner| *owner < 2);
                assert!(cached.segments.iter().all(are_today));
            }
        }
    }
}
