//! Which parts of an image were written: one bit for each of its granules.

/// The bytes of an image that one bit stands for, at least: a block of the guest.
const BLOCK: u64 = 4096;

/// The most bits: 4 MiB of memory.  Larger images have larger granules.
const MOST_BITS: u64 = 1 << 25;

/// Runs with fewer clean granules between them are one: a call costs more than to find that so few
/// extents are shared already.
const GAP: u64 = 8;

/// What was written.
#[derive(Debug)]
pub struct Dirty {
    words: Vec<u64>,
    granule: u64,
    size: u64,
}

impl Dirty {
    /// Nothing, of an image of `size` bytes.
    pub fn none_of(size: u64) -> Self {
        let granule = size.div_ceil(MOST_BITS).max(BLOCK).next_power_of_two();
        let words = size.div_ceil(granule).div_ceil(64);
        Self {
            words: vec![0; usize::try_from(words).unwrap_or(0)],
            granule,
            size,
        }
    }

    /// Adds a range of bytes; what lies beyond the image's end does not count.
    pub fn add(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length).min(self.size);
        if offset >= end {
            return;
        }
        let (mut bit, last) = (offset / self.granule, (end - 1) / self.granule);
        while bit <= last {
            let until = last.min(bit | 63);
            let mask = (u64::MAX >> (63 - (until - bit))) << (bit % 64);
            if let Some(word) = self.words.get_mut(index(bit)) {
                *word |= mask;
            }
            bit = until + 1;
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many bytes, in whole granules.
    pub fn bytes(&self) -> u64 {
        let bits: u64 = self
            .words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        bits * self.granule
    }

    /// All of it as ranges (offset and length in bytes) within the first `length` bytes, in order.
    pub fn runs(&self, length: u64) -> impl Iterator<Item = (u64, u64)> {
        let length = length.min(self.size);
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = self.next_set(at)?;
            let mut last = first;
            while let Some(next) = self.next_set(last + 1).filter(|next| *next <= last + GAP) {
                last = next;
            }
            at = last + 1;
            let (from, to) = (first * self.granule, (at * self.granule).min(length));
            (from < to).then(|| (from, to - from))
        })
    }

    fn next_set(&self, bit: u64) -> Option<u64> {
        let first = index(bit);
        // The bits before it do not count.
        let mut mask = u64::MAX << (bit % 64);
        for (at, word) in self.words.iter().enumerate().skip(first) {
            let found = word & mask;
            if found != 0 {
                return Some(at as u64 * 64 + u64::from(found.trailing_zeros()));
            }
            mask = u64::MAX;
        }
        None
    }
}

fn index(bit: u64) -> usize {
    usize::try_from(bit / 64).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_was_added() {
        let mut dirty = Dirty::none_of(1 << 30);
        assert!(dirty.is_empty());
        dirty.add(5000, 1);
        dirty.add(1 << 20, 600_000);
        dirty.add((1 << 30) - 1, 100);
        let expected = [(4096, 4096), (1 << 20, 602_112), ((1 << 30) - 4096, 4096)];
        assert_eq!(dirty.runs(1 << 30).collect::<Vec<_>>(), expected);
        assert_eq!(dirty.bytes(), 4096 + 602_112 + 4096);
        assert_eq!(dirty.runs(4096).count(), 0, "what is cut off is none");
        dirty.clear();
        assert!(dirty.is_empty());
    }

    #[test]
    fn small_gaps_are_cloned_along() {
        let mut dirty = Dirty::none_of(1 << 30);
        dirty.add(0, 1);
        dirty.add(GAP * 4096, 1);
        dirty.add(100 * 4096, 1);
        let expected = [(0, (GAP + 1) * 4096), (100 * 4096, 4096)];
        assert_eq!(dirty.runs(1 << 30).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_large_image_has_large_granules() {
        let mut dirty = Dirty::none_of(1 << 40);
        dirty.add((1 << 39) + 5, 1);
        assert_eq!(dirty.runs(1 << 40).collect::<Vec<_>>(), [(1 << 39, 32768)]);
    }
}
