//! The guest filesystems' own tools: found in fixed places, run with a clean environment.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Context, Error, Result};
use crate::sys::signals;

/// Where tools of root's are looked for; `$PATH` is the caller's and not to be trusted.
const PLACES: [&str; 6] = [
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// An external program and the package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its file name.
    pub program: &'static str,
    /// The package to install, by the name that Debian and Fedora share.
    pub package: &'static str,
}

impl Tool {
    /// The program's path.
    ///
    /// # Errors
    /// [`Error::NoTool`] where it is not installed.
    pub fn find(self) -> Result<PathBuf> {
        let mut paths = PLACES
            .iter()
            .map(|place| PathBuf::from(place).join(self.program));
        paths
            .find(|path| path.is_file())
            .ok_or_else(|| Error::NoTool {
                program: self.program.to_owned(),
                package: self.package,
            })
    }

    /// Runs it and returns what it printed on stdout.
    ///
    /// # Errors
    /// [`Error::Tool`] with what it said, unless its exit code is in `accepted`.
    pub fn run<S: AsRef<OsStr>>(self, arguments: &[S], accepted: &[i32]) -> Result<String> {
        self.run_as(arguments, accepted, How::Disturbed)
    }

    /// The same for one that is not to be stopped half way: ^C is lovol's alone.
    pub fn run_undisturbed<S: AsRef<OsStr>>(
        self,
        arguments: &[S],
        accepted: &[i32],
    ) -> Result<String> {
        self.run_as(arguments, accepted, How::Undisturbed)
    }

    /// The same for one that is long, while our signals are blocked: one that is to end lovol ends it
    /// first, and comes when they are not any more.
    pub fn run_until_signalled<S: AsRef<OsStr>>(
        self,
        arguments: &[S],
        accepted: &[i32],
    ) -> Result<String> {
        self.run_as(arguments, accepted, How::UntilSignalled)
    }

    fn run_as<S: AsRef<OsStr>>(
        self,
        arguments: &[S],
        accepted: &[i32],
        how: How,
    ) -> Result<String> {
        let path = self.find()?;
        let mut command = Command::new(&path);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", PLACES.join(":"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = match how {
            How::Disturbed => command.output(),
            How::Undisturbed => command.process_group(0).output(),
            How::UntilSignalled => output_until_signalled(command.process_group(0)),
        };
        let output = output.doing("run", &path)?;
        if output
            .status
            .code()
            .is_some_and(|code| accepted.contains(&code))
        {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = arguments
            .iter()
            .map(|word| word.as_ref().to_string_lossy().into_owned());
        let command = std::iter::once(self.program.to_owned())
            .chain(words)
            .collect::<Vec<_>>();
        let said = [output.stderr, output.stdout].concat();
        // What failed comes first; some tools add all of their usage.
        let said = String::from_utf8_lossy(&said);
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let said = lines.take(3).collect::<Vec<_>>().join("; ");
        let said = if said.is_empty() {
            output.status.to_string()
        } else {
            said
        };
        Err(Error::Tool {
            command: command.join(" "),
            said,
        })
    }
}

/// What becomes of it when a signal comes to lovol.
#[derive(Clone, Copy)]
enum How {
    /// What a terminal sends goes to both.
    Disturbed,
    /// It goes on.
    Undisturbed,
    /// It is killed.
    UntilSignalled,
}

/// Runs it, and kills it if there is a signal that is to end us.
fn output_until_signalled(command: &mut Command) -> io::Result<Output> {
    let signals = signals::that_end()?;
    let mut child = command.spawn()?;
    match watch(&child, signals) {
        Ok(watching) => {
            let output = child.wait_with_output();
            // It sees that end, too.
            drop(watching.join());
            output
        }
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// Kills it as soon as there is such a signal, from a thread that ends with it.
fn watch(child: &Child, signals: SignalFd) -> io::Result<JoinHandle<()>> {
    // Never another process that got its number.
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let wait_and_kill = move || {
        let mut polled = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.as_fd(), PollFlags::POLLIN),
        ];
        while poll(&mut polled, PollTimeout::NONE) == Err(Errno::EINTR) {}
        // Nothing, if it has ended by itself.
        let _ = pidfd_send_signal(&process, Signal::KILL);
    };
    std::thread::Builder::new().spawn(wait_and_kill)
}
