//! The log of dm-log-writes: every write, in the order in which the disk made it durable.
//!
//! As `drivers/md/dm-log-writes.c` in the kernel's source has it, all numbers little-endian: a
//! sector with the magic number, the version, the number of entries and the size of a sector; then
//! for each entry a sector with its own sector, length, flags and the length of its text (of a
//! mark, right behind that), and then what was written, if it is neither a mark nor a discard.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// A log that is complete.
pub(crate) struct WriteLog {
    file: File,
    pub(crate) entries: Vec<Entry>,
}

/// One write, flush, discard or mark; places and lengths are in bytes.
pub(crate) struct Entry {
    at: u64,
    length: u64,
    flags: u64,
    /// Where the log has what was written, or the mark's text.
    data: u64,
    text_length: u64,
}

impl WriteLog {
    #[track_caller]
    pub(crate) fn read(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        let [magic, version, count, sector] = numbers(&file, 0);
        assert_eq!((magic, version), (MAGIC, VERSION), "it is no such log");
        let sector = sector & u64::from(u32::MAX);
        let mut entries = Vec::new();
        let mut place = sector;
        for _ in 0..count {
            let [at, sectors, flags, text_length] = numbers(&file, place);
            let mut entry = Entry {
                at: at * sector,
                length: sectors * sector,
                flags,
                data: place + sector,
                text_length,
            };
            place += sector;
            if entry.is_mark() {
                entry.data = place - sector + 32;
            } else if flags & DISCARD == 0 {
                place += entry.length;
            }
            entries.push(entry);
        }
        Self { file, entries }
    }

    /// The text of a mark; none of another entry.
    pub(crate) fn mark(&self, entry: &Entry) -> Option<String> {
        let bytes = entry
            .is_mark()
            .then(|| self.bytes(entry, entry.text_length))?;
        Some(String::from_utf8(bytes).unwrap())
    }

    /// Writes what was written then.
    pub(crate) fn replay(&self, entry: &Entry, disk: &File) {
        if entry.is_mark() || entry.length == 0 {
            return;
        }
        let bytes = if entry.flags & DISCARD == 0 {
            self.bytes(entry, entry.length)
        } else {
            vec![0; entry.length.try_into().unwrap()]
        };
        disk.write_all_at(&bytes, entry.at).unwrap();
    }

    fn bytes(&self, entry: &Entry, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length.try_into().unwrap()];
        self.file.read_exact_at(&mut bytes, entry.data).unwrap();
        bytes
    }
}

impl Entry {
    fn is_mark(&self) -> bool {
        self.flags & MARK != 0
    }

    /// Whether the disk was to have everything up to here before it went on.
    pub(crate) fn is_barrier(&self) -> bool {
        self.flags & (FLUSH | FUA) != 0
    }
}

/// Four numbers in a row.
fn numbers(file: &File, place: u64) -> [u64; 4] {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, place).unwrap();
    let number = |index: usize| {
        let bytes = &bytes[index * 8..][..8];
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    [number(0), number(1), number(2), number(3)]
}
