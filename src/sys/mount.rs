//! Mounting: for people, at a directory (sys-mount); for ourselves, detached from the tree.
//!
//! A detached mount (`fsopen(2)`, `fsmount(2)`) is never visible anywhere, is nosuid, nodev and
//! noexec, and is gone when its descriptor is closed, also after a SIGKILL.  Temporary mounts in
//! `/tmp` have given root to owners of hostile images (CVE-2025-6019).

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use sys_mount::{MountFlags, UnmountFlags};

use crate::error::{Context, Error, Result};
use crate::sys::mountinfo;

/// Mount options, as they are typed after `-o`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    flags: Flags,
    /// What the guest filesystem itself is to get, comma-separated.
    data: Vec<String>,
    /// The mount namespace where it is to be seen, as a file; else this process's own.
    pub namespace: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags(libc::c_ulong);

impl Flags {
    /// Those that `fsconfig(2)` takes, by name.
    fn of_superblock(self) -> impl Iterator<Item = &'static str> {
        const WORDS: [&str; 5] = ["ro", "sync", "dirsync", "lazytime", "mand"];
        WORDS
            .into_iter()
            .filter(move |word| flag(word).is_some_and(|(bits, _)| self.0 & bits.bits() != 0))
    }

    /// Those that `fsmount(2)` takes.
    fn attributes(self) -> MountAttrFlags {
        let words = [
            ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY),
            ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID),
            ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV),
            ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
            ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME),
            ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME),
            ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME),
            ("nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
        ];
        let is_set = |word| flag(word).is_some_and(|(bits, _)| self.0 & bits.bits() != 0);
        words
            .into_iter()
            .filter(|(word, _)| is_set(word))
            .fold(MountAttrFlags::empty(), |all, (_, one)| all | one)
    }
}

impl Options {
    /// Parses a comma-separated list; commas within double quotes do not separate.
    ///
    /// Words that belong to mount(8), fstab or systemd are dropped (the list of mount(8),
    /// "filesystem-independent mount options"); the usual ones become flags; the rest is the
    /// guest filesystem's.
    pub fn parse(text: &str) -> Self {
        let mut options = Self::default();
        for word in split_words(text) {
            options.add(word);
        }
        options
    }

    /// Adds one option word.
    pub fn add(&mut self, word: &str) {
        if is_for_others(word) {
            return;
        }
        match flag(word) {
            Some((bits, true)) => self.flags.0 |= bits.bits(),
            Some((bits, false)) => self.flags.0 &= !bits.bits(),
            None => self.data.push(word.to_owned()),
        }
    }

    /// Whether `ro` is among them.
    pub fn is_read_only(&self) -> bool {
        self.flags.0 & MountFlags::RDONLY.bits() != 0
    }
}

/// The words of a comma-separated list; commas within double quotes do not separate.
pub fn split_words(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    })
    .filter(|word| !word.is_empty())
}

fn is_for_others(word: &str) -> bool {
    const WORDS: [&str; 17] = [
        "auto", "noauto", "defaults", "nofail", "_netdev", "user", "nouser", "users", "nousers",
        "owner", "noowner", "group", "nogroup", "loop", "fail", "silent", "loud",
    ];
    const PREFIXES: [&str; 7] = [
        "x-", "X-", "comment=", "user=", "uhelper=", "helper=", "loop=",
    ];
    WORDS.contains(&word) || PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

/// The flag of a word, and whether the word sets or clears it.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "diratime" => (MountFlags::NODIRATIME, false),
        "relatime" => (MountFlags::RELATIME, true),
        "norelatime" => (MountFlags::RELATIME, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        // MS_LAZYTIME, MS_NOSYMFOLLOW, MS_MANDLOCK and MS_I_VERSION of linux/mount.h.
        "lazytime" => (MountFlags::from_bits_retain(1 << 25), true),
        "nolazytime" => (MountFlags::from_bits_retain(1 << 25), false),
        "nosymfollow" => (MountFlags::from_bits_retain(256), true),
        "symfollow" => (MountFlags::from_bits_retain(256), false),
        "mand" => (MountFlags::from_bits_retain(64), true),
        "nomand" => (MountFlags::from_bits_retain(64), false),
        "iversion" => (MountFlags::from_bits_retain(1 << 23), true),
        "noiversion" => (MountFlags::from_bits_retain(1 << 23), false),
        _ => return None,
    })
}

/// Mounts `device` at `dir`, to stay.
pub fn mount(device: &Path, dir: &Path, fstype: &str, options: &Options) -> Result<()> {
    if let Some(namespace) = &options.namespace {
        return mount_in(namespace, device, dir, fstype, options);
    }
    when_free(device, || call_mount(device, dir, fstype, options))
        .map_err(|error| mount_error(error, dir, fstype, options))
}

/// mount(2)
fn call_mount(device: &Path, dir: &Path, fstype: &str, options: &Options) -> io::Result<()> {
    let mounted = sys_mount::Mount::builder()
        .fstype(fstype)
        .flags(MountFlags::from_bits_retain(options.flags.0))
        .data(&options.data.join(","))
        .mount(device, dir);
    // It stays.
    mounted.map(drop)
}

/// How often it is tried where nobody has it mounted, and how long to wait in between.
const TRIES: usize = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Mounts a device as soon as what was mounted on it before is gone.
///
/// A filesystem that nobody sees any more may still be going away.  To mount it once more meanwhile is
/// fine, but where one is read-only and the other is not: then it is EBUSY (fs/super.c).
fn when_free(device: &Path, mut mount: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..TRIES {
        match mount() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && !is_mounted(device) => {
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
    mount()
}

/// Whether we see a mount of it; where that is not known, there may be one.
fn is_mounted(device: &Path) -> bool {
    let Ok(mounts) = mountinfo::read() else {
        return true;
    };
    mounts.iter().any(|mount| mount.source == device)
}

/// Mounts it here, where nobody sees it, and puts it into another mount namespace: nothing but `dir`
/// is looked up there, as its files may be anybody's.
fn mount_in(
    namespace: &Path,
    device: &Path,
    dir: &Path,
    fstype: &str,
    options: &Options,
) -> Result<()> {
    let there = Elsewhere::open(namespace)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = || rustix::fs::open(dir, flags, Mode::empty());
    let opened = there.visit(open)?.doing("find", dir)?;
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
        .doing("mount a filesystem of type", fstype)?;
    let mut words: Vec<&str> = options.data.iter().map(String::as_str).collect();
    for word in options.flags.of_superblock() {
        words.push(word);
    }
    let mount = Detached::configure(&context, device, &words, options.flags.attributes())
        .map_err(|error| explain(&context, device, error))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let show = || rustix::mount::move_mount(&mount.0, "", &opened, "", flags);
    there.visit(show)?.doing("mount at", dir)
}

/// Another mount namespace, and the way back.
struct Elsewhere {
    path: PathBuf,
    other: File,
    own: File,
    dir: OwnedFd,
}

impl Elsewhere {
    fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            other: File::open(path).doing("open", path)?,
            own: File::open("/proc/self/ns/mnt").doing("open", "/proc/self/ns/mnt")?,
            dir: rustix::fs::open(".", flags, Mode::empty())
                .doing("open", "the working directory")?,
        })
    }

    /// Does something there.
    fn visit<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let enter =
            |file: &File| nix::sched::setns(file, CloneFlags::CLONE_NEWNS).map_err(io::Error::from);
        enter(&self.other).doing("enter the mount namespace", &self.path)?;
        let result = work();
        enter(&self.own).doing("go back from the mount namespace", &self.path)?;
        // Entering one goes to its root.
        nix::unistd::fchdir(&self.dir)
            .map_err(io::Error::from)
            .doing("go back to", "the working directory")?;
        Ok(result)
    }
}

/// Gives what is mounted at `dir` these options, and no others (mount(2), `MS_REMOUNT`).
pub fn remount(dir: &Path, fstype: &str, options: &Options) -> Result<()> {
    let mut options = options.clone();
    options.flags.0 |= MountFlags::REMOUNT.bits();
    // The kernel looks at the directory alone.
    call_mount(dir, dir, fstype, &options)
        .map_err(|error| mount_error(error, dir, fstype, &options))
}

fn mount_error(error: io::Error, dir: &Path, fstype: &str, options: &Options) -> Error {
    let data = options.data.join(",");
    let why = match error.raw_os_error() {
        Some(libc::EINVAL) if !data.is_empty() => {
            format!("{fstype} does not take these options ({data}), or the filesystem is damaged")
        }
        Some(libc::EINVAL) if fstype == "xfs" => {
            let hint = "-o nouuid mounts it beside its twin; the kernel's log ('dmesg') says more";
            let why = "it is damaged, or an XFS of the same UUID is mounted already";
            return Error::refused(format!("cannot mount at {}", dir.display()), why)
                .with_hint(hint);
        }
        Some(libc::EINVAL) => format!("this is no {fstype} that can be mounted"),
        Some(libc::ENODEV) => format!("the kernel does not know {fstype}"),
        Some(libc::EBUSY) => "its device is mounted elsewhere with other options".to_owned(),
        Some(libc::EUCLEAN) => "the filesystem is damaged".to_owned(),
        _ => return Error::io("mount at", dir, error),
    };
    Error::refused(format!("cannot mount at {}", dir.display()), why)
        .with_hint("the kernel's log ('dmesg') says more")
}

/// Unmounts what is mounted at `dir`.
pub fn unmount(dir: &Path) -> Result<()> {
    // UMOUNT_NOFOLLOW of linux/fs.h; sys-mount's own constant is open(2)'s, which the kernel refuses.
    let no_follow = UnmountFlags::from_bits_retain(8);
    match sys_mount::unmount(dir, no_follow) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(Error::InUse {
            what: dir.display().to_string(),
            by: vec!["files or working directories in it".into()],
            hint: Some(format!("'fuser -vm {}' names the processes", dir.display())),
        }),
        result => result.doing("unmount", dir),
    }
}

/// What every mount of our own is.
const CLOSED: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A mount that is nowhere in the tree.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Mounts `device`, with options such as `ro` or `nouuid`, each one word.
    ///
    /// # Errors
    /// The kernel's, with what the filesystem said of it.
    pub fn new(device: &Path, fstype: &str, options: &[&str]) -> Result<Self> {
        let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
            .doing("mount a filesystem of type", fstype)?;
        Self::configure(&context, device, options, CLOSED)
            .map_err(|error| explain(&context, device, error))
    }

    /// Mounts a filesystem that has no device, such as tracefs.
    pub fn virtual_of(fstype: &str) -> Result<Self> {
        let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
            .doing("mount a filesystem of type", fstype)?;
        Self::create(&context, CLOSED).doing("mount a filesystem of type", fstype)
    }

    fn configure(
        context: &OwnedFd,
        device: &Path,
        options: &[&str],
        attributes: MountAttrFlags,
    ) -> io::Result<Self> {
        rustix::mount::fsconfig_set_string(context, "source", device)?;
        for option in options {
            match option.split_once('=') {
                Some((key, value)) => rustix::mount::fsconfig_set_string(context, key, value)?,
                None => rustix::mount::fsconfig_set_flag(context, *option)?,
            }
        }
        Self::create(context, attributes)
    }

    fn create(context: &OwnedFd, attributes: MountAttrFlags) -> io::Result<Self> {
        rustix::mount::fsconfig_create(context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Ok(Self(rustix::mount::fsmount(context, flags, attributes)?))
    }

    /// A descriptor of its root directory that can be read and asked by ioctl.
    pub fn open_root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, ".", flags, Mode::empty())?)
    }

    /// Writes everything back and unmounts.
    pub fn close(self) -> io::Result<()> {
        rustix::fs::syncfs(self.open_root()?)?;
        Ok(())
    }
}

/// The kernel's error with the filesystem's own words, which `fsopen` contexts keep.
fn explain(context: &OwnedFd, device: &Path, error: io::Error) -> Error {
    let said = messages(context);
    if said.is_empty() {
        return Error::io("mount", device, error);
    }
    Error::refused(format!("cannot mount {}", device.display()), said)
}

fn messages(context: &OwnedFd) -> String {
    let mut said = Vec::new();
    let mut buffer = [0_u8; 1024];
    while let Ok(length) = rustix::io::read(context.as_fd(), &mut buffer) {
        let Some(message) = buffer.get(..length).filter(|message| !message.is_empty()) else {
            break;
        };
        said.push(String::from_utf8_lossy(message).trim().to_owned());
    }
    said.join("; ")
}

/// Gives the root directory of a new guest the `SELinux` label of its mount point, so that what is
/// made in it is labelled as if it lay in that directory.  Does nothing where `SELinux` is off or
/// the root has a label already.
pub fn take_label(device: &Path, fstype: &str, options: &[&str], dir: &Path) -> Result<()> {
    const LABEL: &CStr = c"security.selinux";
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return Ok(());
    }
    let mut label = [0_u8; 256];
    let Ok(length) = rustix::fs::getxattr(dir, LABEL, &mut label[..]) else {
        return Ok(());
    };
    let guest = Detached::new(device, fstype, options)?;
    let root = guest.open_root().doing("open", device)?;
    // Unlabelled files report the policy's default, so only what was set counts.
    let mut own = [0_u8; 256];
    let has_label = rustix::fs::fgetxattr(&root, LABEL, &mut own[..])
        .is_ok_and(|length| !own[..length].windows(11).any(|part| part == b"unlabeled_t"));
    if !has_label {
        rustix::fs::fsetxattr(
            &root,
            LABEL,
            &label[..length],
            rustix::fs::XattrFlags::empty(),
        )
        .doing("label", dir)?;
    }
    drop(root);
    guest.close().doing("unmount", device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_words_become_flags_and_the_rest_is_the_guests() {
        let options = Options::parse(
            "rw,noatime,nofail,x-systemd.automount,discard,suid,nosuid,ro,logbsize=256k",
        );
        assert!(options.is_read_only());
        assert_eq!(options.data, ["discard", "logbsize=256k"]);
        let expected = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::RDONLY;
        assert_eq!(options.flags.0, expected.bits());
    }

    #[test]
    fn commas_in_quotes_do_not_separate() {
        let options = Options::parse("context=\"a:c0,c1\",noexec");
        assert_eq!(options.data, ["context=\"a:c0,c1\""]);
    }
}
