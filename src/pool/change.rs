//! Changing what is known of an image: its record first, the index last, or nothing.

use rustix::fs::OFlags;

use crate::error::{Context, Result};
use crate::index::Index;
use crate::pool::{Edit, Place, Pool, ballast};
use crate::record::Record;

/// Changes the record of an image, with the pool's lock held for that moment; returns the new one.
///
/// # Errors
/// What `change` refuses; else the kernel's.  Then both are as before.
pub fn change(
    pool: &Pool,
    place: &Place,
    change: impl FnOnce(&mut Record) -> Result<()>,
) -> Result<Record> {
    change_in(pool, place, |_, record| change(record))
}

/// The same, where the rest of the index matters.
pub fn change_in(
    pool: &Pool,
    place: &Place,
    change: impl FnOnce(&Index, &mut Record) -> Result<()>,
) -> Result<Record> {
    let mut edit = Edit::begin(pool)?;
    let before = place.record_in(&edit.index)?.clone();
    let mut after = before.clone();
    change(&edit.index, &mut after)?;
    if after == before {
        return Ok(after);
    }
    let shown = place.target();
    // Writing an xattr is for the owner, whatever the file is open for.
    let file = pool.open_image(place, OFlags::RDONLY)?;
    edit.index.set_record(place, after.clone())?;
    let written = ballast::make_room_for(pool.dir(), || after.write(&file))
        .doing("write the record of", &shown)
        .and_then(|()| rustix::fs::fsync(&file).doing("write back", &shown))
        .and_then(|()| edit.save());
    if let Err(error) = written {
        // What cannot be taken back is a record that differs from the index: 'check' says so.
        drop(before.write(&file));
        return Err(error);
    }
    Ok(after)
}
