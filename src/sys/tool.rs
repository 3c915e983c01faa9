//! The guest filesystems' own tools: found in fixed places, run with a clean environment.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::error::{Context, Error, Result};

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
        self.run_as(arguments, accepted, |_| {})
    }

    /// The same for one that is not to be stopped half way: ^C is lovol's alone.
    pub fn run_undisturbed<S: AsRef<OsStr>>(
        self,
        arguments: &[S],
        accepted: &[i32],
    ) -> Result<String> {
        self.run_as(arguments, accepted, |command| {
            command.process_group(0);
        })
    }

    fn run_as<S: AsRef<OsStr>>(
        self,
        arguments: &[S],
        accepted: &[i32],
        change: impl FnOnce(&mut Command),
    ) -> Result<String> {
        let path = self.find()?;
        let mut command = Command::new(&path);
        change(&mut command);
        let output = command
            .args(arguments)
            .env_clear()
            .env("PATH", PLACES.join(":"))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .doing("run", &path)?;
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
