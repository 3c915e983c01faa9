//! Nothing stays frozen, whatever becomes of the test.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// Thaws a filesystem later, or at once if this process dies; not at all if it is dropped before.
#[must_use = "it thaws nothing once it is dropped"]
pub(crate) struct Thaw {
    process: Child,
    line: ChildStdin,
}

impl Thaw {
    /// A process of its own waits for a word, and thaws `dir` if there is none in time.
    pub(crate) fn later(dir: impl AsRef<Path>, after: Duration) -> Self {
        let mut process = Command::new("bash")
            .args(["-c", r#"read -r -t "$0" || exec fsfreeze --unfreeze "$1""#])
            .arg(after.as_secs_f64().to_string())
            .arg(dir.as_ref())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = process.stdin.take().unwrap();
        Self { process, line }
    }

    /// Whether it has done so: then something was frozen for too long.
    pub(crate) fn has_come(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }
}

impl Drop for Thaw {
    fn drop(&mut self) {
        self.line.write_all(b"never mind\n").ok();
        self.process.wait().ok();
    }
}
