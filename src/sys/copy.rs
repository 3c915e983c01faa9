//! Copying a file's data, and its holes as holes: where that was asked for, as a reflink cannot be.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::sys::reflink;

/// After so many bytes it is told how far it has got.
const STEP: u64 = 64 << 20;

/// Copies the first `length` bytes of `source` to the same places of `destination`, which is empty.
/// Calls `after` with where it has got to.
///
/// # Errors
/// The kernel's, and `UnexpectedEof` where the source became shorter.
pub fn data(
    mut source: &File,
    mut destination: &File,
    length: u64,
    mut after: impl FnMut(u64),
) -> io::Result<()> {
    for part in reflink::data(source, length) {
        let part = part?;
        let (mut at, end) = (part.at, part.at + part.length);
        while at < end {
            let now = STEP.min(end - at);
            // Finding the next part has moved the source's offset.
            source.seek(SeekFrom::Start(at))?;
            destination.seek(SeekFrom::Start(at))?;
            if io::copy(&mut source.take(now), &mut destination)? < now {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += now;
            after(at);
        }
    }
    Ok(())
}
