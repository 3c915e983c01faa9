//! Room in a pool that lovols at work may come to take, until the index says what has become of it: or two
//! at once would be promised the same.
//!
//! ```text
//! /run/lovol/claim-POOL-PID-N    so many bytes; locked for as long as that counts
//! ```
//! Who claims holds a lock only to decide, as what follows may take hours.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::error::{Context, Error, Result};
use crate::pool::Pool;
use crate::sys::marker;

/// Room that is claimed, until this is dropped.
#[must_use = "others may claim the same room when it is dropped"]
#[derive(Debug, Default)]
pub struct Claimed {
    /// Holds the lock.
    file: Option<(File, PathBuf)>,
}

impl Claimed {
    /// Claims so many bytes; [`others`] has been asked under the same lock of the pool's claims.
    pub(crate) fn note(pool: &Pool, bytes: u64) -> Result<Self> {
        marker::make_dir()?;
        let start = start_of_names(pool);
        for number in 0_u32.. {
            let name = format!("{start}{}-{number}", std::process::id());
            let path = Path::new(marker::DIR).join(name);
            let mut options = File::options();
            let made = options.write(true).create_new(true).mode(0o600).open(&path);
            let mut file = match made {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                made => made.doing("make", &path)?,
            };
            let claimed = Self {
                file: Some((file.try_clone().doing("open", &path)?, path.clone())),
            };
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
                .doing("lock", &path)?;
            write!(file, "{bytes}").doing("write", &path)?;
            return Ok(claimed);
        }
        Err(Error::refused("cannot claim room", "there are too many"))
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            drop(fs::remove_file(path));
        }
    }
}

/// The bytes that others have claimed; what the dead have left is taken away.
pub(crate) fn others(pool: &Pool) -> Result<u64> {
    let entries = match fs::read_dir(marker::DIR) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.doing("read", marker::DIR)?,
    };
    let start = start_of_names(pool);
    let mut bytes = 0_u64;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&start) {
            bytes = bytes.saturating_add(read(&entry.path())?);
        }
    }
    Ok(bytes)
}

fn read(path: &Path) -> Result<u64> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        file => file.doing("open", path)?,
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        drop(fs::remove_file(path));
        return Ok(0);
    }
    let mut text = String::new();
    file.read_to_string(&mut text).doing("read", path)?;
    Ok(text.parse().unwrap_or_default())
}

fn start_of_names(pool: &Pool) -> String {
    format!("claim-{}-", pool.uuid())
}
