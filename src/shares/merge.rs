//! Reading the maps of all images side by side, in the order of the files' bytes.
//!
//! What was read before of images that never change comes from the [cache](super::cache), as one map
//! that names the owners of each piece.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs::File;
use std::io;
use std::rc::Rc;

use crate::shares::cache::{Cached, Kept, Segment};
use crate::shares::{Bytes, Owners};
use crate::sys::extents::{Piece, Reader, shared_within};

/// A file whose map is to be read.
pub(super) struct Source<'f> {
    pub(super) file: &'f File,
    /// It never changes.
    pub(super) is_immutable: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// The bytes of each set of owners.
    pub(super) sets: HashMap<Owners, Bytes>,
    /// How much of each file is mapped.
    pub(super) mapped: Vec<u64>,
    /// What is to be kept of the images that never change.
    pub(super) kept: Kept,
}

/// Who has a piece.
#[derive(Clone, Debug)]
enum Owner {
    Image(u32),
    /// By the cache.
    Known(Rc<Owners>),
}

/// The next piece of a map.
#[derive(Debug)]
struct Next {
    piece: Piece,
    owner: Owner,
    /// It is what was left when a part of it was counted: its map is not read on for it.
    is_rest: bool,
}

struct Merge<'f> {
    sources: &'f [Source<'f>],
    readers: Vec<Reader<'f>>,
    cached: std::vec::IntoIter<Segment>,
    known: Vec<Rc<Owners>>,
    ahead: BinaryHeap<Next>,
    /// Pieces of one owner of which the cache cannot know whether a foreign file has them by now.
    unsure: Vec<(u32, u64, u64)>,
    merged: Merged,
}

/// Reads all of it.
pub(super) fn merge(sources: &[Source<'_>], cached: Cached) -> io::Result<Merged> {
    let readers = sources.iter();
    let readers = readers.map(|source| Reader::new(source.file, sources.len()));
    let mut merge = Merge {
        sources,
        readers: readers.collect(),
        cached: cached.segments.into_iter(),
        known: cached.sets.into_iter().map(Rc::new).collect(),
        ahead: BinaryHeap::new(),
        unsure: Vec::new(),
        merged: Merged {
            mapped: vec![0; sources.len()],
            ..Merged::default()
        },
    };
    for number in 0..sources.len() {
        let known = u32::try_from(number)
            .ok()
            .and_then(|number| cached.mapped.get(&number));
        match known {
            Some(mapped) => merge.merged.mapped[number] = *mapped,
            None => merge.read_on(number)?,
        }
    }
    merge.read_cache();
    merge.run()?;
    merge.ask_again()?;
    Ok(merge.merged)
}

impl Merge<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut here: Vec<Next> = Vec::new();
        while let Some(start) = self.ahead.peek().map(|next| next.piece.logical) {
            while self
                .ahead
                .peek()
                .is_some_and(|next| next.piece.logical == start)
            {
                let Some(next) = self.ahead.pop() else { break };
                if !next.is_rest && matches!(next.owner, Owner::Known(_)) {
                    self.read_cache();
                }
                here.push(next);
            }
            let ends = here
                .iter()
                .map(|next| next.piece.logical + next.piece.length);
            let next = self.ahead.peek().map(|next| next.piece.logical);
            let end = ends.chain(next).min().unwrap_or(start);
            self.count(&mut here, end - start);
            for next in here.drain(..) {
                match (next.piece.from(end), &next.owner) {
                    (Some(piece), _) => self.ahead.push(Next {
                        piece,
                        is_rest: true,
                        ..next
                    }),
                    (None, Owner::Image(number)) => self.read_on(at(*number))?,
                    // The next of the cache is there already.
                    (None, Owner::Known(_)) => {}
                }
            }
        }
        Ok(())
    }

    fn read_on(&mut self, number: usize) -> io::Result<()> {
        if let Some(piece) = self.readers[number].next_piece()? {
            self.merged.mapped[number] += piece.length;
            self.ahead.push(Next {
                piece,
                owner: Owner::Image(u32::try_from(number).unwrap_or(u32::MAX)),
                is_rest: false,
            });
        }
        Ok(())
    }

    fn read_cache(&mut self) {
        if let Some(segment) = self.cached.next() {
            self.ahead.push(Next {
                piece: Piece {
                    logical: segment.logical,
                    physical: segment.physical,
                    length: segment.length,
                    is_shared: false,
                },
                owner: Owner::Known(Rc::clone(&self.known[at(segment.owners)])),
                is_rest: false,
            });
        }
    }

    /// Counts what lies at one place of all files, for so many bytes.
    fn count(&mut self, here: &mut [Next], length: u64) {
        here.sort_unstable_by_key(|next| next.piece.physical);
        for same in here.chunk_by(|one, other| one.piece.physical == other.piece.physical) {
            let [first, ..] = same else { continue };
            let piece = first.piece;
            let owners = owners_of(same);
            let immutable = owners.iter().copied();
            let immutable = immutable.filter(|owner| self.sources[at(*owner)].is_immutable);
            let immutable: Owners = immutable.collect();
            if !immutable.is_empty() {
                let place = (piece.logical, piece.physical, length);
                self.merged.kept.add(immutable, place);
            }
            let is_foreign = owners.len() == 1 && piece.is_shared;
            if let ([only], Owner::Known(_)) = (&*owners, &first.owner) {
                self.unsure.push((*only, piece.logical, length));
            }
            let bytes = self.merged.sets.entry(owners).or_default();
            if is_foreign {
                bytes.foreign += length;
            } else {
                bytes.own += length;
            }
        }
    }

    /// That a foreign file has a piece leaves no sign on the image: so it is asked each time.
    fn ask_again(&mut self) -> io::Result<()> {
        for (number, start, length) in std::mem::take(&mut self.unsure) {
            let shared = shared_within(self.sources[at(number)].file, start, length)?;
            if shared > 0 {
                let bytes = self.merged.sets.entry([number].into()).or_default();
                bytes.own = bytes.own.saturating_sub(shared);
                bytes.foreign += shared;
            }
        }
        Ok(())
    }
}

fn owners_of(same: &[Next]) -> Owners {
    let mut owners = Vec::with_capacity(same.len());
    for next in same {
        match &next.owner {
            Owner::Image(number) => owners.push(*number),
            Owner::Known(known) => owners.extend(known.iter()),
        }
    }
    owners.sort_unstable();
    owners.into_boxed_slice()
}

fn at(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Ord for Next {
    /// The one that comes first in its file is the greatest: the heap gives that.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        Reverse(self.piece.logical).cmp(&Reverse(other.piece.logical))
    }
}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.piece.logical == other.piece.logical
    }
}

impl Eq for Next {}
