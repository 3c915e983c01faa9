//! Copies of a btrfs beside their mounted origin, which Linux before 6.7 refuses to mount.

use std::path::Path;

use super::command::sh;

pub(crate) use lovol::guest::btrfs::kernel_tells_twins_apart;

/// Shows in `dir` what is in the btrfs on `image`, without mounting it.
///
/// What only the log holds, of the last fsyncs, is not in it.
#[track_caller]
pub(crate) fn restore_btrfs(image: &Path, dir: &Path) {
    let (image, dir) = (image.display(), dir.display());
    sh(&format!(
        "btrfs check --readonly {image} 2>&1; btrfs restore {image} {dir} 2>&1"
    ));
}
