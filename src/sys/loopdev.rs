//! Loop devices: bound in one step, found by what they are bound to, gone when we say so.
//!
//! The package loopdev finds free devices, opens and detaches them.  Binding is one
//! `LOOP_CONFIGURE` on its handle: loopdev's own way takes two ioctls, between which the device
//! is live without its flags, and leaves a "read-only" device of a writable file writable.
//!
//! A device is identified by (device, inode) of what it is bound to, as `losetup --nooverlap`
//! does it; paths in sysfs are for messages only.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use linux_raw_sys::loop_device::{LO_NAME_SIZE, loop_info64};
use loopdev::{LoopControl, LoopDevice as Handle};
use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::error::{Context, Error, Result};
use crate::sys::{holders, ioctl};

/// Flags of `loop_info64` (uapi/linux/loop.h).
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// The major number of loop devices (Documentation/admin-guide/devices.txt).
pub const MAJOR: u32 = 7;

/// The minor number of `/dev/loopN`: N, unless the module's `max_part` reserves some after each for
/// partitions (drivers/block/loop.c, `part_shift`).
pub fn minor(number: u32) -> u32 {
    number << part_shift()
}

/// The device number of `/dev/loopN`, as `st_rdev` has it.
pub fn device_number(number: u32) -> u64 {
    nix::sys::stat::makedev(MAJOR.into(), minor(number).into())
}

/// N, if that is the device number of `/dev/loopN`, and not of a partition.
pub fn number_of(device_number: u64) -> Option<u32> {
    let minor = u32::try_from(nix::sys::stat::minor(device_number)).ok()?;
    let number = minor >> part_shift();
    (self::device_number(number) == device_number).then_some(number)
}

fn part_shift() -> u32 {
    static SHIFT: OnceLock<u32> = OnceLock::new();
    *SHIFT.get_or_init(|| {
        let text = std::fs::read_to_string("/sys/module/loop/parameters/max_part");
        let most = text.ok().and_then(|text| text.trim().parse().ok());
        most.map_or(0, |most: u32| u32::BITS - most.leading_zeros())
    })
}

/// How many times a device that somebody else took first is replaced by another (systemd: 64).
const TRIES: u32 = 64;

/// How long a device may take to be gone after its last user left.
const DETACH_TIME: Duration = Duration::from_secs(5);

/// A file as the kernel tells files apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl FileId {
    /// The identity of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::from(&metadata))
    }
}

impl From<&std::fs::Metadata> for FileId {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// A bound loop device, as the kernel describes it.
#[derive(Clone, Debug)]
pub struct Attached {
    /// N of `/dev/loopN`.
    pub number: u32,
    /// What it is bound to.
    pub file: FileId,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether it goes away with its last user.
    pub autoclear: bool,
    /// Whether it bypasses the page cache of the filesystem beneath.
    pub direct_io: bool,
    /// Whether it shows the whole file, without an offset or a limit.
    pub is_whole: bool,
    /// The reference that whoever bound it gave it: for lovol the UUID of the image.
    pub reference: String,
}

impl Attached {
    fn from_info(number: u32, info: &loop_info64) -> Self {
        let name = info
            .lo_file_name
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect();
        Self {
            number,
            file: FileId {
                device: info.lo_device,
                inode: info.lo_inode,
            },
            read_only: info.lo_flags & READ_ONLY != 0,
            autoclear: info.lo_flags & AUTOCLEAR != 0,
            direct_io: info.lo_flags & DIRECT_IO != 0,
            is_whole: info.lo_offset == 0 && info.lo_sizelimit == 0,
            reference: String::from_utf8(name).unwrap_or_default(),
        }
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> PathBuf {
        device_path(self.number)
    }

    /// Whether it is bound to this file, or to a throw-away clone of it that carries its reference.
    ///
    /// Such a clone lies on the same filesystem: elsewhere, as in a copy of the whole pool, the
    /// same reference means another image.
    pub fn shows(&self, file: FileId, reference: Option<&str>) -> bool {
        let is_clone =
            || self.file.device == file.device && reference == Some(self.reference.as_str());
        self.file == file || is_clone()
    }

    /// The block devices that lie on this one: dm-crypt, LVM, RAID (sysfs, `holders`).
    pub fn stacked_on_it(&self) -> Vec<String> {
        let holders = format!("/sys/block/loop{}/holders", self.number);
        let Ok(entries) = std::fs::read_dir(holders) else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
            .collect()
    }
}

/// The device node of loop device `number`.
pub fn device_path(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// All loop devices that are bound to something.
///
/// Needs root: the devices are opened to be asked.
pub fn all_attached() -> Result<Vec<Attached>> {
    let mut attached = Vec::new();
    for number in bound_numbers()? {
        // One that cannot be asked may be bound to anything: that is no answer to go on with.
        attached.extend(status(number).doing("ask", device_path(number))?);
    }
    attached.sort_by_key(|device| device.number);
    Ok(attached)
}

/// The numbers of the loop devices that are bound, by sysfs.
pub fn bound_numbers() -> Result<Vec<u32>> {
    let entries = std::fs::read_dir("/sys/block").doing("read", "/sys/block")?;
    let numbers = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix("loop")?.parse().ok()?;
        is_bound(number).then_some(number)
    });
    Ok(numbers.collect())
}

fn is_bound(number: u32) -> bool {
    Path::new(&format!("/sys/block/loop{number}/loop")).exists()
}

/// Opens loop device `number` to ask it, if it may be bound.
fn open(number: u32) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match rustix::fs::open(device_path(number), flags, Mode::empty()) {
        Ok(device) => Ok(Some(device.into())),
        // In rundown: not bound.
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // In a container the node may be missing, and the device bound all the same.
        Err(rustix::io::Errno::NOENT) if !is_bound(number) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What loop device `number` is bound to, if it is.
pub fn status(number: u32) -> io::Result<Option<Attached>> {
    let Some(device) = open(number)? else {
        return Ok(None);
    };
    match ioctl::loop_status(&device) {
        Ok(info) => Ok(Some(Attached::from_info(number, &info))),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the file behind a device is, as sysfs has it: relative to our root, stale after an
/// unlink, ambiguous with newlines.  For showing, or to be checked.
pub fn backing_path(number: u32) -> Option<PathBuf> {
    let path =
        std::fs::read_to_string(format!("/sys/block/loop{number}/loop/backing_file")).ok()?;
    Some(PathBuf::from(path.strip_suffix('\n').unwrap_or(&path)))
}

/// How to bind a device.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Refuse writes, whatever the file allows.
    pub read_only: bool,
    /// Go away with the last user; otherwise stay until detached.
    pub autoclear: bool,
    /// Bypass the page cache of the filesystem beneath, where the kernel grants it.
    pub direct_io: bool,
    /// The size of its sectors in bytes; otherwise what the file's filesystem asks for.
    pub sector: Option<u32>,
    /// The UUID that it carries, for whoever looks for it later.
    pub reference: &'a str,
}

/// A loop device that this process bound.
///
/// With `autoclear` it is gone when this and every other user of it is closed, also after a
/// SIGKILL; without, it stays.
#[derive(Debug)]
pub struct LoopDevice {
    handle: Handle,
    attached: Attached,
}

impl LoopDevice {
    /// Binds a free device to `file`; whether direct I/O was granted, [`Attached::direct_io`] says.
    ///
    /// The device keeps `file`'s description open, so `file` must hold no lock.
    pub fn attach(file: &File, options: Options<'_>) -> Result<Self> {
        let control = LoopControl::open().doing("open", "/dev/loop-control")?;
        let mut last = io::Error::from_raw_os_error(libc::EBUSY);
        for attempt in 0..TRIES {
            match Self::try_attach(&control, file, options) {
                Ok(device) => return Ok(device),
                Err(error) if is_taken(&error) => last = error,
                Err(error) => return Err(error).doing("attach", "a loop device"),
            }
            std::thread::sleep(Duration::from_millis(u64::from(attempt.min(20))));
        }
        Err(last).doing("attach", "a loop device")
    }

    fn try_attach(control: &LoopControl, file: &File, options: Options<'_>) -> io::Result<Self> {
        // systemd's protocol: whoever looks for a free device holds this lock, so that two do
        // not look at the same one.  It ends with this handle.
        let lock = File::open("/dev/loop-control")?;
        lock_soon(&lock)?;
        let handle = control.next_free()?;
        let number = handle.minor()? >> part_shift();
        let mut config = ioctl::empty_loop_config();
        config.fd = file.as_raw_fd().unsigned_abs();
        config.block_size = options.sector.unwrap_or(0);
        config.info.lo_flags = if options.direct_io { DIRECT_IO } else { 0 }
            | if options.read_only { READ_ONLY } else { 0 }
            | if options.autoclear { AUTOCLEAR } else { 0 };
        let room = LO_NAME_SIZE as usize - 1;
        for (to, from) in config
            .info
            .lo_file_name
            .iter_mut()
            .zip(options.reference.bytes().take(room))
        {
            *to = from;
        }
        ioctl::loop_configure(ioctl::borrow(&handle), &mut config)?;
        match Self::verified(&handle, number, file, options) {
            Ok(attached) => Ok(Self { handle, attached }),
            Err(error) => {
                // Bound, but nobody is told of it; the error says more than the detaching could.
                drop(handle.detach());
                Err(error)
            }
        }
    }

    /// The kernel must have done what it was told: old ones ignored some flags silently.
    fn verified(
        handle: &Handle,
        number: u32,
        file: &File,
        options: Options<'_>,
    ) -> io::Result<Attached> {
        let info = ioctl::loop_status(ioctl::borrow(handle))?;
        let attached = Attached::from_info(number, &info);
        let is_as_told = attached.file == FileId::of(file)?
            && attached.read_only == options.read_only
            && attached.autoclear == options.autoclear;
        if is_as_told {
            return Ok(attached);
        }
        Err(io::Error::other(
            "the loop device is not what was asked for",
        ))
    }

    /// The device node.
    pub fn path(&self) -> PathBuf {
        self.attached.path()
    }

    /// What the kernel says of it.
    pub fn attached(&self) -> &Attached {
        &self.attached
    }

    /// Closes it and, where it was bound with autoclear, waits until it is gone.
    ///
    /// # Errors
    /// When something else keeps it open for longer than 5 s.
    pub fn close(self) -> Result<()> {
        let attached = self.attached.clone();
        drop(self);
        if attached.autoclear {
            wait_until_gone(&attached)
        } else {
            Ok(())
        }
    }
}

/// Others hold it for moments; one that was stopped may hold it for ever.
fn lock_soon(control: &File) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let started = Instant::now();
    loop {
        match rustix::fs::flock(control, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process holds the lock of /dev/loop-control",
                ));
            }
            locked => return locked.map_err(Into::into),
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBUSY | libc::ENXIO | libc::ENODEV | libc::EAGAIN)
    )
}

/// Opens a device that was found, so that it stays bound to what it was found with; `None` if it no
/// longer is, and its number may be another file's by now.
pub fn hold(attached: &Attached) -> Result<Option<File>> {
    // Not for writing, which may be forbidden while it is mounted, and which udev answers by looking
    // at the device again.
    let Some(device) = open(attached.number).doing("open", attached.path())? else {
        return Ok(None);
    };
    match ioctl::loop_status(&device) {
        Ok(info) if Attached::from_info(attached.number, &info).file == attached.file => {
            Ok(Some(device))
        }
        Ok(_) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error).doing("ask", attached.path()),
    }
}

/// Detaches a loop device and waits until that is true.
///
/// `LOOP_CLR_FD` alone only asks: since Linux 6.11 it always waits for the last user to close.
pub fn detach(attached: &Attached) -> Result<()> {
    let Some(held) = hold(attached)? else {
        return Ok(());
    };
    let claim = claim(attached)?;
    let handle = Handle::open(attached.path()).doing("open", attached.path())?;
    handle.detach().doing("detach", attached.path())?;
    drop((handle, held, claim));
    wait_until_gone(attached)
}

/// Detaches a device that we have just bound, and have open ourselves.
pub fn detach_own(device: &LoopDevice) -> Result<()> {
    device.handle.detach().doing("detach", device.path())
}

/// Opens a device that nobody else uses, so that nobody mounts it meanwhile; waits for those who
/// only look at it.
fn claim(attached: &Attached) -> Result<File> {
    let started = Instant::now();
    loop {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::open(attached.path(), flags, Mode::empty()) {
            Ok(fd) if holders::of_device(attached.number).is_empty() => return Ok(File::from(fd)),
            Ok(_) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(Error::io("open", attached.path(), error.into())),
        }
        if started.elapsed() > DETACH_TIME {
            return Err(in_use(attached));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn in_use(attached: &Attached) -> Error {
    let by = holders::of_device(attached.number);
    let elsewhere = || {
        vec![
            "mounted in another mount namespace, claimed by the kernel, or unmounted while frozen (then mount it again, and 'fsfreeze -u' its directory)"
                .into(),
        ]
    };
    Error::InUse {
        what: attached.path().display().to_string(),
        by: if by.is_empty() { elsewhere() } else { by },
        hint: None,
    }
}

/// Lets a loop device notice that its file has grown.
pub fn refresh_size(attached: &Attached) -> Result<()> {
    // Not for writing, which may be forbidden while it is mounted.
    let Some(device) = hold(attached)? else {
        return Ok(());
    };
    ioctl::loop_refresh(&device).doing("resize", attached.path())
}

/// Waits until the device is no longer bound to the same file.
pub fn wait_until_gone(attached: &Attached) -> Result<()> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(100);
    while is_still_bound(attached) {
        if started.elapsed() > DETACH_TIME {
            return Err(in_use(attached));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

/// Asks sysfs first: opening the device would make us one more user that it waits for.
fn is_still_bound(attached: &Attached) -> bool {
    is_bound(attached.number)
        && match status(attached.number) {
            Ok(Some(now)) => now.file == attached.file,
            Ok(None) => false,
            Err(_) => true,
        }
}
