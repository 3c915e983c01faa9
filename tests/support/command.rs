//! Running a command, with a limit, and telling all about it when it goes wrong.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::happens;

/// No command of a test takes as long as this, unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// How long the output may stay open after the command has ended.
const GRACE: Duration = Duration::from_secs(15);

/// Runs a bash script (`-euo pipefail`), fails if it fails, and returns what it printed, trimmed.
#[track_caller]
pub(crate) fn sh(script: &str) -> String {
    finish(&mut bash(script)).expect_success()
}

/// bash, about to run `script`, with the lovol under test on its `$PATH`.
pub(super) fn bash(script: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_lovol"));
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!(
        "{}:{path}:/usr/sbin:/sbin",
        binary.parent().unwrap().display()
    );

    let mut command = Command::new("bash");
    command
        .args(["-euo", "pipefail", "-c", script])
        .env("PATH", path);
    command
}

/// Runs a command to its end.
#[track_caller]
pub(super) fn finish(command: &mut Command) -> Finished {
    Running::start(command, Vec::new()).finish()
}

/// A command that has ended: how, and what it said.
pub(crate) struct Finished {
    shown: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// What it printed, trimmed; fails if the command failed.
    #[track_caller]
    pub(crate) fn expect_success(self) -> String {
        assert!(self.status.success(), "it failed:\n{self}");
        self.stdout.trim().to_owned()
    }

    /// Fails unless it failed and said this on stderr.
    #[track_caller]
    pub(crate) fn expect_failure(self, says: &str) {
        assert!(!self.status.success(), "it did not fail:\n{self}");
        assert!(
            self.stderr.contains(says),
            "it does not say {says:?}:\n{self}"
        );
    }

    /// Its exit code, or none if a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it, if one did.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.shown)?;
        writeln!(f, "{}", self.status)?;
        writeln!(f, "--- stdout\n{}", self.stdout)?;
        writeln!(f, "--- stderr\n{}", self.stderr)
    }
}

/// A command that runs; it is killed if it is dropped.
#[must_use = "a running command is killed when it is dropped"]
pub(crate) struct Running {
    shown: String,
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    #[track_caller]
    pub(super) fn start(command: &mut Command, input: Vec<u8>) -> Self {
        let shown = shown(command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));

        let mut stdin = child.stdin.take().unwrap();
        // A command may end without reading what it was told.
        thread::spawn(move || stdin.write_all(&input).ok());
        let stdout = read_all(child.stdout.take().unwrap());
        let stderr = read_all(child.stderr.take().unwrap());
        Self {
            shown,
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Sends it a signal; it may have ended already.
    #[track_caller]
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill(self.pid(), signal).unwrap();
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end, but not for ever.
    #[track_caller]
    pub(crate) fn finish(self) -> Finished {
        self.finish_within(LIMIT)
    }

    /// Waits for its end, and fails if that takes longer than `limit`.
    #[track_caller]
    pub(crate) fn finish_within(mut self, limit: Duration) -> Finished {
        let ended = happens(limit, || !self.is_running());
        if !ended {
            self.child.kill().ok();
        }
        let stdout = self.stdout.recv_timeout(GRACE);
        let stderr = self.stderr.recv_timeout(GRACE);
        let in_time = stdout.is_ok() && stderr.is_ok();
        let said = [stdout, stderr].map(|text| text.unwrap_or_else(|_| "(still open)".to_owned()));
        let [stdout, stderr] = &said;

        assert!(
            ended,
            "not within {limit:?}: $ {}\n--- stdout\n{stdout}\n--- stderr\n{stderr}",
            self.shown
        );
        assert!(in_time, "something holds its output open: $ {}", self.shown);

        let status = self.child.wait().unwrap();
        let [stdout, stderr] = said;
        Finished {
            shown: self.shown.clone(),
            status,
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        // Whoever waits for a frozen guest dies only when that is thawed: do not wait for it.
        happens(Duration::from_secs(2), || {
            !matches!(self.child.try_wait(), Ok(None))
        });
    }
}

fn read_all(mut from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        sender
            .send(String::from_utf8_lossy(&bytes).into_owned())
            .ok();
    });
    receiver
}

/// A command as it is typed, more or less.
fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name();
    let words = name.into_iter().chain(command.get_args()).map(quoted);
    words.collect::<Vec<_>>().join(" ")
}

/// A word in quotes if it is not plain.
fn quoted(word: &OsStr) -> String {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./@%+=:,".contains(b);
    match word.to_str() {
        Some(text) if text.as_bytes().iter().all(is_plain) => text.to_owned(),
        _ => format!("{word:?}"),
    }
}
