//! Memory that is shared with a child or with the kernel, and only ever used through atomics.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags};

/// Pages of a file or device, mapped and shared with everybody who maps them too.
#[derive(Debug)]
pub struct SharedPages {
    address: NonNull<AtomicU64>,
    length: NonZeroUsize,
}

impl SharedPages {
    /// Maps the first `length` bytes of `file`, which must have them: a use of memory beyond its
    /// end would be a SIGBUS.
    pub fn map(file: impl AsFd, length: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; it lives until `drop` and is
        // only ever used through the atomics.
        let address = unsafe {
            nix::sys::mman::mmap(None, length, protection, MapFlags::MAP_SHARED, file, 0)
        }?;
        Ok(Self {
            address: address.cast(),
            length,
        })
    }

    /// The 64-bit word at `offset`.
    ///
    /// # Panics
    /// Unless `offset` is a multiple of 8 within the mapping.
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.length.get());
        // SAFETY: aligned and within the mapping, which lives as long as `self`.
        unsafe { self.address.byte_add(offset).as_ref() }
    }

    /// The first 32-bit word.
    fn first(&self) -> &AtomicU32 {
        // SAFETY: the mapping is page-aligned, not empty, and lives as long as `self`.
        unsafe { self.address.cast().as_ref() }
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        // SAFETY: the very mapping that `map` made; nothing else holds its address.
        let unmapped = unsafe { nix::sys::mman::munmap(self.address.cast(), self.length.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping");
    }
}

/// One 32-bit word at the start of a file, mapped and shared with every process that is forked
/// later, and with every process that maps or reads the file.
#[derive(Debug)]
pub struct SharedWord(SharedPages);

impl SharedWord {
    const LENGTH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

    /// Maps the first word of `file`, which must be at least a page long.
    pub fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() < Self::LENGTH.get() as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        SharedPages::map(file, Self::LENGTH).map(Self)
    }

    /// The word's value.
    pub fn get(&self) -> u32 {
        self.0.first().load(Ordering::SeqCst)
    }

    /// Stores a value, at once visible to all who share the word.
    pub fn set(&self, value: u32) {
        self.0.first().store(value, Ordering::SeqCst);
    }

    /// Stores a value in the place of an expected one; whether that was there.
    pub fn replace(&self, expected: u32, value: u32) -> bool {
        let word = self.0.first();
        word.compare_exchange(expected, value, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}
