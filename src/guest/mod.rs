//! The filesystems in the images: what differs between them.

pub mod btrfs;
pub mod ext4;
pub mod proof;
pub mod xfs;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::StatVfsMountFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result, WRITE_BACK_GUEST};
use crate::plan::Observer;
use crate::record::Consistency;
use crate::size::{MIB, Size};
use crate::sys::mount::Detached;
use crate::sys::{ioctl, probe};

/// A guest filesystem's type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Fs {
    /// XFS.
    Xfs,
    /// ext4, and ext2 and ext3, which the same driver serves.
    Ext4,
    /// btrfs.
    Btrfs,
    /// Nothing, or nothing that was recognised.
    None,
    /// One that lovol cannot make, but may mount.
    Other(String),
}

impl Fs {
    /// Its name in `mount -t`.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::None => "none",
            Self::Other(name) => name,
        }
    }

    /// The smallest volume that its mkfs takes.
    pub fn least_size(&self) -> Size {
        match self {
            Self::Xfs => xfs::LEAST_SIZE,
            Self::Ext4 => ext4::LEAST_SIZE,
            Self::Btrfs => btrfs::LEAST_SIZE,
            Self::None | Self::Other(_) => Size(MIB),
        }
    }

    /// Fails when the tools to make it are not installed.
    pub fn can_be_made(&self) -> Result<()> {
        match self {
            Self::Xfs => xfs::MKFS.find().map(drop),
            Self::Ext4 => ext4::MKFS.find().map(drop),
            Self::Btrfs => btrfs::MKFS.find().map(drop),
            Self::None => Ok(()),
            Self::Other(name) => Err(Error::usage(
                format!("lovol cannot make {name}"),
                "xfs, ext4 and btrfs can be made",
            )),
        }
    }

    /// Makes it on a device that holds no filesystem, with sectors and blocks of 4096 bytes, so
    /// that it mounts on loop devices of 512 and of 4096 bytes.
    pub fn make(&self, device: &Path, label: Option<&str>, options: &[String]) -> Result<()> {
        if probe::signature(device)? != probe::Signature::default() {
            return Err(Error::refused(
                format!("cannot make a filesystem on {}", device.display()),
                "there is a signature of another on it",
            ));
        }
        let (mkfs, fixed) = match self {
            Self::Xfs => (xfs::MKFS, xfs::MKFS_OPTIONS),
            Self::Ext4 => (ext4::MKFS, ext4::MKFS_OPTIONS),
            Self::Btrfs => (btrfs::MKFS, btrfs::MKFS_OPTIONS),
            Self::None | Self::Other(_) => return Ok(()),
        };
        let device = device.to_string_lossy();
        let mut arguments = fixed.to_vec();
        if let Some(label) = label {
            // All three spell it so.
            arguments.extend(["-L", label]);
        }
        arguments.extend(options.iter().map(String::as_str));
        arguments.push(&device);
        mkfs.run(&arguments, &[0]).map(drop)
    }

    /// The longest label, in bytes.
    pub fn longest_label(&self) -> usize {
        match self {
            Self::Xfs => 12,
            Self::Ext4 => 16,
            Self::Btrfs => 255,
            Self::None | Self::Other(_) => 0,
        }
    }

    /// The options that show a snapshot of it exactly as it was, on a read-only device.
    pub fn view_options(&self, consistency: Consistency) -> &'static [&'static str] {
        match (self, consistency) {
            // A frozen XFS has everything in place and a log that is dirty by design.
            (Self::Xfs, Consistency::Frozen) => &["ro", "nouuid", "norecovery"],
            (Self::Xfs, _) => &["ro", "nouuid"],
            _ => &["ro"],
        }
    }

    /// The options with which it replays its log beside a mounted twin.
    pub fn replay_options(&self) -> &'static [&'static str] {
        match self {
            Self::Xfs => &["nouuid"],
            _ => &[],
        }
    }

    /// Whether it needs no replay of its log: it can be mounted from this read-only device.
    pub fn is_clean(&self, device: &Path) -> bool {
        match self {
            Self::None => false,
            // Before 6.7 a second btrfs of the same UUID could take the first one's place.
            Self::Btrfs if !btrfs::kernel_tells_twins_apart() => {
                btrfs::has_empty_log(device).unwrap_or(false)
            }
            _ => {
                Detached::new(device, self.as_str(), self.view_options(Consistency::Clean)).is_ok()
            }
        }
    }

    /// Looks whether it is sound, on a writable device that is not mounted.
    ///
    /// What its log has is replayed first, by the kernel; ext4 gets what `e2fsck -p` mends safely,
    /// as at boot.
    ///
    /// # Errors
    /// [`Error::Tool`] with what its checker says.
    pub fn check(&self, device: &Path) -> Result<()> {
        match self {
            Self::Xfs => xfs::check(device),
            Self::Ext4 => ext4::check(device),
            Self::Btrfs => btrfs::check(device),
            Self::None | Self::Other(_) => Err(Error::refused(
                format!("cannot check {}", device.display()),
                format!("lovol knows no checker for {self}"),
            )),
        }
    }

    /// Gives it a new UUID, on a writable device that is not mounted.
    ///
    /// Its log is replayed by the kernel first, never zeroed.
    pub fn renew_uuid(&self, device: &Path, consistency: Consistency) -> Result<()> {
        match self {
            Self::Xfs => xfs::renew_uuid(device),
            Self::Ext4 => ext4::renew_uuid(device),
            Self::Btrfs => btrfs::renew_uuid(device, consistency),
            Self::None | Self::Other(_) => Ok(()),
        }
    }

    /// How large it is, in bytes, by its root directory or its device; `None` where that is not known.
    pub fn size(&self, root: &OwnedFd, device: &Path) -> Result<Option<u64>> {
        let size = match self {
            Self::Xfs => ioctl::xfs_size(root).map(Some),
            Self::Ext4 => return ext4::size(device).map(Some),
            Self::Btrfs => ioctl::btrfs_size(root).map(|(_, bytes)| Some(bytes)),
            Self::None | Self::Other(_) => Ok(None),
        };
        size.doing("ask for the size of", device)
    }

    /// Makes it as large as its device, which has `bytes`; it is mounted, and `root` its root
    /// directory.  Does nothing where it is.
    pub fn grow(&self, root: &OwnedFd, device: &Path, bytes: u64) -> Result<()> {
        let grown = match self {
            Self::Xfs => ioctl::xfs_grow(root, bytes),
            Self::Ext4 => return ext4::grow(root, device, bytes),
            Self::Btrfs => match ioctl::btrfs_size(root) {
                Ok((_, size)) if size == bytes => Ok(()),
                _ => ioctl::btrfs_resize(root, bytes),
            },
            Self::None | Self::Other(_) => Ok(()),
        };
        grown.doing("grow the filesystem on", device)
    }

    /// The least that it can be shrunk or grown to.
    pub fn least_resized(&self) -> Size {
        match self {
            // fs/btrfs/ioctl.c, `btrfs_ioctl_resize`: SZ_256M.
            Self::Btrfs => Size(256 * MIB),
            _ => self.least_size(),
        }
    }

    /// Whether it can be made smaller at all, and whether while it is mounted.
    pub fn shrinks(&self) -> Shrinks {
        match self {
            Self::Ext4 => Shrinks::Unmounted,
            Self::Btrfs => Shrinks::Mounted,
            Self::Xfs | Self::None | Self::Other(_) => Shrinks::Never,
        }
    }

    /// What an image holds, by its content only.
    pub fn recognise(device: &Path) -> Result<(Self, probe::Signature)> {
        let signature = probe::signature(device)?;
        let fs = match signature.fstype.as_deref() {
            Some(name) if !signature.is_ambiguous => Self::from(name.to_owned()),
            _ => Self::None,
        };
        Ok((fs, signature))
    }
}

/// When a filesystem can be made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrinks {
    /// It cannot.
    Never,
    /// While it is not mounted.
    Unmounted,
    /// While it is.
    Mounted,
}

/// Mounts a filesystem read-write where nobody sees it, so that the kernel replays its log.
fn replay(device: &Path, fs: &Fs) -> Result<()> {
    let mount = Detached::new(device, fs.as_str(), fs.replay_options())?;
    mount
        .close()
        .map_err(|error| Error::io("unmount", device, error))
}

impl From<String> for Fs {
    fn from(name: String) -> Self {
        match name.as_str() {
            "xfs" => Self::Xfs,
            "ext4" | "ext3" | "ext2" => Self::Ext4,
            "btrfs" => Self::Btrfs,
            "none" => Self::None,
            _ => Self::Other(name),
        }
    }
}

impl From<Fs> for String {
    fn from(fs: Fs) -> Self {
        fs.as_str().to_owned()
    }
}

impl fmt::Display for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a mounted filesystem takes no writes any more, as after one that its pool had no room for.
///
/// An XFS that has shut down and an ext4 that has aborted its journal answer an fsync of the root
/// directory with EIO or EROFS; nothing is written where nothing has changed.  A btrfs that has given up
/// is read-only, does not look at what has not changed, and says it of a commit, of which there is nothing
/// to do in one that was made read-only by somebody.
pub fn has_given_up(root: impl AsFd, fstype: &str) -> Option<io::Error> {
    let why = match rustix::fs::fsync(&root) {
        Err(errno) => io::Error::from(errno),
        Ok(()) if fstype == "btrfs" && is_read_only(&root) => ioctl::btrfs_sync(&root).err()?,
        Ok(()) => return None,
    };
    is_end(&why).then_some(why)
}

/// Whether an error says that a filesystem has given up.
pub fn is_end(why: &io::Error) -> bool {
    matches!(why.raw_os_error(), Some(libc::EIO | libc::EROFS))
}

fn is_read_only(root: impl AsFd) -> bool {
    let flags = rustix::fs::fstatvfs(root).map(|stat| stat.f_flag);
    flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY))
}

/// Lets a mounted guest write everything back, before it is asked to by somebody who must not fail.
///
/// The kernel keeps a failure of writing back until somebody asks (`errseq_t`; fs/sync.c, syncfs(2)): so
/// the first one to ask may be told of what went wrong long ago, as when the pool was full.  What fails
/// twice fails now.
pub fn write_back(root: impl AsFd, name: &str, observer: &dyn Observer) -> Result<()> {
    let sync = || rustix::fs::syncfs(&root).doing(WRITE_BACK_GUEST, name);
    if sync().is_ok() {
        return Ok(());
    }
    sync()?;
    observer.warn(&format!(
        "writing {name} back has failed before: what was written to it then may be lost ('dmesg' says more)"
    ));
    Ok(())
}
