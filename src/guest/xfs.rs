//! XFS as a guest.

use std::path::Path;

use crate::error::{Error, Result};
use crate::guest::{Fs, replay};
use crate::size::{MIB, Size};
use crate::sys::tool::Tool;

pub(super) const MKFS: Tool = Tool {
    program: "mkfs.xfs",
    package: "xfsprogs",
};
const REPAIR: Tool = Tool {
    program: "xfs_repair",
    package: "xfsprogs",
};
const DB: Tool = Tool {
    program: "xfs_db",
    package: "xfsprogs",
};

/// mkfs.xfs(8): "the minimum supported size of a filesystem is 300MB" since xfsprogs 5.19.
pub(super) const LEAST_SIZE: Size = Size(300 * MIB);

/// Sectors and blocks of 4096 bytes, no discard of what is a hole anyway.
pub(super) const MKFS_OPTIONS: &[&str] = &["-q", "-K", "-s", "size=4096", "-b", "size=4096"];

/// xfs_repair(8) cannot look at a filesystem whose log is dirty.
pub(super) fn check(device: &Path) -> Result<()> {
    replay(device, &Fs::Xfs)?;
    REPAIR
        .run(&["-n", &device.to_string_lossy()], &[0])
        .map(drop)
}

/// `xfs_admin -U generate` is this call of `xfs_db`; it refuses while the log is dirty, which
/// after a freeze it always is.
pub(super) fn renew_uuid(device: &Path) -> Result<()> {
    replay(device, &Fs::Xfs)?;
    let device = device.to_string_lossy();
    let printed = DB.run(&["-x", "-p", "lovol", "-c", "uuid generate", &device], &[0])?;
    // xfs_db reports failures of a command on stdout, with exit code 0.
    if printed.contains("new UUID") {
        return Ok(());
    }
    Err(Error::Tool {
        command: "xfs_db -c 'uuid generate'".into(),
        said: printed,
    })
}
