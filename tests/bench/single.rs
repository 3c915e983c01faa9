//! The plain way to clone a mounted image: freeze, one FICLONERANGE over all of it, thaw.

use std::fs::File;
use std::time::Duration;

use lovol::sys::ioctl;

use crate::bed::Bed;
use crate::support::Thaw;

/// Nothing here takes as long as this; past it, somebody else thaws.
const LIMIT: Duration = Duration::from_secs(600);

/// Clones the bed's volume by one call inside a freeze.
pub(crate) fn clone_in_freeze(bed: &Bed, name: &str) {
    let image = File::open(bed.pool.image("home")).unwrap();
    let length = image.metadata().unwrap().len();
    let clone = bed.new_file(name);
    let root = File::open(&bed.volume).unwrap();

    let _rescue = Thaw::later(&bed.volume, LIMIT);
    ioctl::freeze(&root).unwrap();
    let cloned = ioctl::clone_range(&image, &clone, 0, length);
    ioctl::thaw(&root).unwrap();
    cloned.unwrap();
    clone.sync_all().unwrap();
}
