//! lovol as it is typed: `pool.lovol("create home 50G").ok("home\n")`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::command::{Finished, Running};

/// The lovol under test, without a pool; [`super::TestPool::lovol`] has one.
///
/// The words are split at white space; what needs other bytes goes through [`Lovol::arg`].
pub(crate) fn lovol(words: &str) -> Lovol {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lovol"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(words.split_whitespace());
    Lovol {
        command,
        input: Vec::new(),
    }
}

/// A lovol that is about to run: say how it should end.
#[must_use = "it runs only when it is asked how it ends: ok, ok_any, fails, json, start or finish"]
pub(crate) struct Lovol {
    command: Command,
    input: Vec<u8>,
}

impl Lovol {
    /// One more argument, of any bytes.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// One more environment variable; it has none but `PATH` and `LOVOL_POOL`.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads from stdin, which is never a terminal.
    pub(crate) fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// The directory that it works in.
    pub(crate) fn within(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The command itself, for what this builder does not know (uid, groups, another program).
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// It succeeds and prints exactly this.
    #[track_caller]
    pub(crate) fn ok(self, stdout: &str) {
        let finished = self.finish();
        assert!(finished.status.success(), "it failed:\n{finished}");
        assert_eq!(
            finished.stdout, stdout,
            "it printed something else:\n{finished}"
        );
    }

    /// It succeeds; returns what it printed.
    #[track_caller]
    pub(crate) fn ok_any(self) -> String {
        let finished = self.finish();
        assert!(finished.status.success(), "it failed:\n{finished}");
        finished.stdout
    }

    /// It fails with this code and says this on stderr; returns all that it said there.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, says: &str) -> String {
        let finished = self.finish();
        assert_eq!(
            finished.code(),
            Some(code),
            "not with exit code {code}:\n{finished}"
        );
        assert!(
            finished.stderr.contains(says),
            "it does not say {says:?}:\n{finished}"
        );
        finished.stderr
    }

    /// It succeeds and prints JSON; returns that.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let finished = self.finish();
        assert!(finished.status.success(), "it failed:\n{finished}");
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}):\n{finished}"))
    }

    /// Runs it to its end, whichever that is.
    #[track_caller]
    pub(crate) fn finish(self) -> Finished {
        self.start().finish()
    }

    /// Starts it and returns while it runs.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        Running::start(&mut self.command, self.input)
    }
}
