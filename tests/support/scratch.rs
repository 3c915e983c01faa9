//! A temporary directory that takes its mounts and loop devices with it when it goes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::command::finish;
use super::machine::{LoopDevice, Mount, loop_devices, mounts};
use super::wait::happens;

/// How long a mount or a loop device may take to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory, and everything that the kernel has on files in it.
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// A new one beneath `$TMPDIR`, which others may look into.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("lovol-test.")
            .tempdir()
            .unwrap()
            .keep();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        Self {
            dir: dir.canonicalize().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// The loop devices on its files, and on the files of filesystems on those.
    pub(crate) fn loops(&self) -> Vec<LoopDevice> {
        let (mut ours, mut others): (Vec<_>, Vec<_>) = loop_devices()
            .into_iter()
            .partition(|device| device.file.starts_with(&self.dir));
        while let Some(at) = others
            .iter()
            .position(|other| ours.iter().any(|our| our.number() == other.lies_on))
        {
            ours.push(others.swap_remove(at));
        }
        ours
    }

    /// The mounts beneath it, and those of its loop devices elsewhere, in the order of mounting.
    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let loops = self.loops();
        let ours = |mount: &Mount| {
            mount.is_beneath(&self.dir) || loops.iter().any(|device| mount.shows(device))
        };
        mounts().into_iter().filter(ours).collect()
    }

    fn is_free(&self) -> bool {
        self.mounts().is_empty() && self.loops().is_empty()
    }

    /// Thaws, unmounts, detaches and removes all of it; what fails is seen by what is left.
    fn clean(&self) -> Result<(), String> {
        self.thaw();
        let freed = happens(PATIENCE, || {
            self.unmount_and_detach();
            self.is_free()
        });
        if !freed {
            self.rescue();
        }
        if !self.is_free() {
            return Err(format!(
                "left behind: {:?} {:?}",
                self.mounts(),
                self.loops()
            ));
        }
        self.remove()
    }

    /// The outermost first: a guest cannot be thawed on a frozen pool.
    fn thaw(&self) {
        let loops = self.loops();
        for mount in self.mounts() {
            if loops.iter().any(|device| mount.shows(device)) {
                finish(Command::new("fsfreeze").arg("--unfreeze").arg(&mount.dir));
            }
        }
    }

    fn unmount_and_detach(&self) {
        for mount in self.mounts().iter().rev() {
            finish(Command::new("umount").arg(&mount.dir));
        }
        for device in self.loops() {
            if let Some(_held) = self.hold(&device) {
                finish(Command::new("losetup").args(["--detach", &device.device]));
            }
        }
    }

    /// Opens a loop device if it is still ours: it cannot become another's while it is open.
    fn hold(&self, device: &LoopDevice) -> Option<File> {
        let held = File::open(&device.device).ok()?;
        self.loops().contains(device).then_some(held)
    }

    /// A guest that was unmounted while it was frozen comes back, frozen, when it is mounted.
    fn rescue(&self) {
        let dir = self.dir.join("rescue");
        fs::create_dir_all(&dir).ok();
        for device in self.loops().iter().rev() {
            if let Some(_held) = self.hold(device) {
                finish(Command::new("mount").arg(&device.device).arg(&dir));
                finish(Command::new("fsfreeze").arg("--unfreeze").arg(&dir));
                finish(Command::new("umount").arg(&dir));
            }
        }
        self.unmount_and_detach();
        happens(PATIENCE, || self.is_free());
    }

    fn remove(&self) -> Result<(), String> {
        let remove = || {
            finish(
                Command::new("rm")
                    .args(["-rf", "--one-file-system", "--"])
                    .arg(&self.dir),
            )
        };
        if !remove().status.success() {
            finish(
                Command::new("chattr")
                    .args(["-R", "-f", "-i", "--"])
                    .arg(&self.dir),
            );
        }
        let finished = remove();
        if finished.status.success() {
            Ok(())
        } else {
            Err(finished.to_string())
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A panic that leaves a destructor while another is under way would abort all tests.
        let cleaned = catch_unwind(AssertUnwindSafe(|| self.clean()));
        if !thread::panicking() {
            cleaned.unwrap().unwrap();
        }
    }
}
