//! Files beneath a directory that we hold open, reached without following anything.
//!
//! Everything in a pool is opened here: from the pool's descriptor, never leaving it, through no
//! symlink, onto no other mount, and then used by descriptor.  A name, symlink, hard link, FIFO or
//! race planted in the pool can so make a command fail, but never touch anything elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};

/// Opens `path` beneath `dir` (`openat2(2)`).
pub fn open(dir: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    // O_TMPFILE is several bits, of which O_DIRECTORY is one.
    let mode = if flags.contains(OFlags::CREATE) || flags.contains(OFlags::TMPFILE) {
        Mode::RUSR | Mode::WUSR
    } else {
        Mode::empty()
    };
    loop {
        match rustix::fs::openat2(
            dir.as_fd(),
            path.as_ref(),
            flags | OFlags::CLOEXEC,
            mode,
            resolve,
        ) {
            // The kernel saw a rename or mount meanwhile and cannot tell whether we got out.
            Err(rustix::io::Errno::AGAIN) if !flags.contains(OFlags::NONBLOCK) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Opens a directory beneath `dir`.
pub fn open_dir(dir: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    open(dir, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// What is wrong with a file that is to be an image of ours, if anything.
///
/// It must be a regular file of root's, on the pool's filesystem, with one name.
pub fn why_not_ours(metadata: &std::fs::Metadata, device: u64) -> Option<&'static str> {
    if !metadata.file_type().is_file() {
        Some("it is not a regular file")
    } else if metadata.uid() != 0 {
        Some("it does not belong to root")
    } else if metadata.dev() != device {
        Some("it is not on the pool's filesystem")
    } else if metadata.nlink() > 1 {
        Some("it has a second name (a hard link)")
    } else {
        None
    }
}

/// Opens a regular file of ours beneath `dir`.
///
/// It is looked at before it is opened for real (by `O_PATH`), because opening a FIFO waits and
/// opening a device can do anything.
pub fn open_ours(
    dir: impl AsFd,
    path: impl AsRef<Path>,
    device: u64,
    flags: OFlags,
) -> io::Result<File> {
    let place = File::from(open(dir, path, OFlags::PATH | OFlags::NOFOLLOW)?);
    if let Some(why) = why_not_ours(&place.metadata()?, device) {
        return Err(io::Error::other(why));
    }
    reopen(&place, flags)
}

/// Opens the very same file once more: a description of its own, with its own lock and flags.
pub fn reopen(file: impl AsFd, flags: OFlags) -> io::Result<File> {
    let link = fd_path(&file);
    let fd = rustix::fs::open(link, flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(File::from(fd))
}

/// The path by which this process can name an open file.
pub fn fd_path(file: &impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// The path by which a tool that we run can name a file that we have open.
pub fn fd_path_for_tools(file: &impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        file.as_fd().as_raw_fd()
    )
}

/// A file without a name on the filesystem of `dir`, gone when closed unless [`link`]ed.
pub fn unnamed(dir: impl AsFd) -> io::Result<File> {
    open(dir, ".", OFlags::TMPFILE | OFlags::RDWR).map(File::from)
}

/// Gives an unnamed file its name; fails with `EEXIST` if the name is taken.
pub fn link(file: &File, dir: impl AsFd, name: impl AsRef<Path>) -> io::Result<()> {
    rustix::fs::linkat(file, "", dir, name.as_ref(), AtFlags::EMPTY_PATH)?;
    Ok(())
}

/// Renames beneath `dir`, never onto an existing name.
pub fn rename(dir: impl AsFd, from: &Path, to: &Path) -> io::Result<()> {
    let (from_dir, from_name) = parent(&dir, from)?;
    let (to_dir, to_name) = parent(&dir, to)?;
    rustix::fs::renameat_with(
        &from_dir,
        &from_name,
        &to_dir,
        &to_name,
        RenameFlags::NOREPLACE,
    )?;
    sync(&to_dir)?;
    sync(&from_dir)
}

/// Exchanges two names beneath `dir`, so that neither is ever missing.
pub fn exchange(dir: impl AsFd, one: &Path, other: &Path) -> io::Result<()> {
    let (one_dir, one_name) = parent(&dir, one)?;
    let (other_dir, other_name) = parent(&dir, other)?;
    rustix::fs::renameat_with(
        &one_dir,
        &one_name,
        &other_dir,
        &other_name,
        RenameFlags::EXCHANGE,
    )?;
    sync(&one_dir)?;
    sync(&other_dir)
}

/// Removes a file's name beneath `dir`.
pub fn unlink(dir: impl AsFd, path: &Path) -> io::Result<()> {
    let (parent, name) = parent(&dir, path)?;
    rustix::fs::unlinkat(&parent, &name, AtFlags::empty())?;
    sync(&parent)
}

/// Makes a directory, 0700, beneath `dir`.
pub fn make_dir(dir: impl AsFd, path: &Path) -> io::Result<()> {
    let (parent, name) = parent(&dir, path)?;
    rustix::fs::mkdirat(&parent, &name, Mode::RWXU)?;
    sync(&parent).inspect_err(|_| {
        // Not known to be durable is not made.
        let _ = rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR);
    })
}

/// Removes an empty directory beneath `dir`.
pub fn remove_dir(dir: impl AsFd, path: &Path) -> io::Result<()> {
    let (parent, name) = parent(&dir, path)?;
    rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?;
    sync(&parent)
}

/// Whether something has this name; a dangling symlink has it too.
pub fn exists(dir: impl AsFd, path: impl AsRef<Path>) -> io::Result<bool> {
    match open(dir, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(_) => Ok(true),
        // A symlink at the end, opened with NO_SYMLINKS: a name all the same.
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The names in a directory beneath `dir`; those that are not UTF-8 are shown with `\u{fffd}`.
pub fn names(dir: impl AsFd, path: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let fd = open_dir(dir, path)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes a directory's entries durable: a file's own fsync does not (`fsync(2)`).
pub fn sync(dir: impl AsFd) -> io::Result<()> {
    rustix::fs::fsync(dir)?;
    Ok(())
}

/// The open parent directory of `path`, and the last name in it.
fn parent(dir: &impl AsFd, path: &Path) -> io::Result<(OwnedFd, std::ffi::OsString)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((open_dir(dir, parent)?, name.to_owned()))
}
