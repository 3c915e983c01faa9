//! lovol as it is typed: `pool.lovol("create home 50G").ok("home\n")`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::command::{Finished, Running};

/// The program under test.
pub(crate) const LOVOL: &str = env!("CARGO_BIN_EXE_lovol");

/// The lovol under test, without a pool; [`super::TestPool::lovol`] has one.
///
/// The words are split at white space; what needs other bytes goes through [`Lovol::arg`].
pub(crate) fn lovol(words: &str) -> Lovol {
    lovol_called(LOVOL, words)
}

/// The same by another name, which is a link to it: `mount.lovol`.
pub(crate) fn lovol_called(program: impl AsRef<OsStr>, words: &str) -> Lovol {
    let mut command = Command::new(program);
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

    /// The same, run by another program: the last of `wrapper`'s arguments are lovol and its own.
    pub(crate) fn under(mut self, wrapper: &[&OsStr]) -> Self {
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .env_clear();
        for (name, value) in self.command.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        self.command = command;
        self
    }

    /// The same under strace, which writes its log to `log`; its options are split at white space.
    ///
    /// Without `-f` only lovol itself is traced, neither its guardian nor its tools.
    pub(crate) fn strace(self, log: impl AsRef<Path>, options: &str) -> Self {
        let log = log.as_ref().as_os_str();
        let mut wrapper: Vec<&OsStr> = vec!["strace".as_ref(), "-o".as_ref(), log];
        wrapper.extend(options.split_whitespace().map(OsStr::new));
        self.under(&wrapper)
    }

    /// The same in a mount namespace of its own, in which `script` has run before.
    pub(crate) fn in_namespace(self, script: &str) -> Self {
        let own = self.command.get_current_dir().unwrap_or(Path::new("/"));
        let leave_others = leave_others(own);
        let script = format!("set -e; {leave_others}; {script}; exec \"$0\" \"$@\"");
        let words = ["unshare", "--mount", "--propagation=private", "bash", "-c"];
        let mut wrapper: Vec<&OsStr> = words.iter().map(OsStr::new).collect();
        wrapper.push(script.as_ref());
        self.under(&wrapper)
    }

    /// The same with `dir` in the place of `/run/lovol`: what it leaves there concerns no other
    /// test.
    pub(crate) fn with_markers_in(self, dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref().display();
        self.in_namespace(&format!(
            "mkdir -p -m 0700 /run/lovol; mount --bind {dir} /run/lovol"
        ))
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

/// What a new mount namespace is to do first: it has copies of all mounts, and would keep those of
/// other tests mounted when they are gone from everywhere else.
pub(crate) fn leave_others(own: &Path) -> String {
    format!(
        "awk -v own={}/ 'index($5, \"/lovol-test.\") && index($5, own) != 1 {{ print $5 }}' \
         /proc/self/mountinfo | tac | xargs -r -n 1 umount --lazy",
        own.display()
    )
}
