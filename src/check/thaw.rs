//! Thawing what a dead lovol and its dead guardian have left frozen.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use crate::check::{Finding, Kind};
use crate::error::{Context, Error, Result};
use crate::guest::{Fs, proof};
use crate::plan::{Observer, Step};
use crate::sys::loopdev::{self, Attached};
use crate::sys::marker::{Abandoned, Note, State};
use crate::sys::mount::Detached;
use crate::sys::{ioctl, rcu};
use crate::usage::Usage;

/// What the markers say.
#[must_use]
pub fn findings(abandoned: &[Abandoned]) -> Vec<Finding> {
    abandoned
        .iter()
        .filter_map(Abandoned::frozen)
        .map(|note| Finding {
            kind: Kind::Frozen,
            what: note.name.clone(),
            problem: format!(
                "lovol, pid {}, died while it froze it, and its guardian too: it may be frozen",
                note.pid
            ),
            hint: None,
        })
        .collect()
}

/// Thaws everything that is left, and removes the markers; the first error, after trying all.
pub fn thaw(abandoned: &[Abandoned], observer: &dyn Observer) -> Result<()> {
    let mut result = Ok(());
    for marker in abandoned {
        if let Some(note) = &marker.note
            && let Err(error) = undo(note, marker.state, observer)
        {
            result = result.and(Err(error));
            continue;
        }
        result = result.and(std::fs::remove_file(&marker.path).doing("remove", &marker.path));
    }
    result
}

/// Takes back what a freeze that had got so far has changed.
fn undo(note: &Note, state: State, observer: &dyn Observer) -> Result<()> {
    if state.may_be_frozen() {
        thaw_one(note)?;
        // Said only now: what it is said to may lie on what was frozen.
        observer.begin(&Step::Thaw {
            name: note.name.clone(),
        });
    }
    if note.expedites {
        rcu::switch_off();
    }
    Ok(())
}

fn thaw_one(note: &Note) -> Result<()> {
    let Some(device) = device_of(note).doing("look at the device of", &note.name)? else {
        // A frozen filesystem keeps its device: where that is gone, so is the freeze.
        return Ok(());
    };
    let Some(root) = root_of(&device, note)? else {
        return Ok(());
    };
    match ioctl::thaw(&root) {
        Ok(()) => Ok(()),
        // Not frozen (any more): the freeze had not begun, or somebody was here before us.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        Err(error) => Err(Error::io("thaw", &note.name, error)),
    }
}

/// The device that it was on, if that is still there; where that cannot be asked, it may be.
fn device_of(note: &Note) -> io::Result<Option<Attached>> {
    let is_same =
        |device: &Attached| device.file.device == note.device && device.file.inode == note.inode;
    Ok(loopdev::status(note.loop_number)?.filter(is_same))
}

/// A descriptor on the frozen filesystem: where it is mounted, or mounted once more where nobody
/// sees it (unmounting a frozen filesystem leaves it frozen in the kernel).
///
/// None where no filesystem holds the device, which then nobody is to mount: a virtual machine may
/// be at work on it.
fn root_of(device: &Attached, note: &Note) -> Result<Option<OwnedFd>> {
    let usage = Usage::look()?;
    let mounts = usage.mounts_of(device);
    if let Some(root) = mounts
        .iter()
        .find_map(|entry| proof::open(entry, device).ok())
    {
        return Ok(Some(root));
    }
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    if rustix::fs::open(device.path(), flags, Mode::empty()).is_ok() {
        return Ok(None);
    }
    let fs = Fs::from(note.fstype.clone());
    let mount = Detached::new(&device.path(), fs.as_str(), &[])?;
    mount.open_root().map(Some).doing("open", &note.name)
}
