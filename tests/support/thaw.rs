//! Nothing stays frozen, whatever becomes of the test.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// A last word ends it; the end of the line thaws as well.
const WAIT: &str = r#"
    while read -r -t "$0" word; do
        if [ "$word" = never ]; then exit; fi
    done
    exec fsfreeze --unfreeze "$1""#;

/// Thaws a filesystem later, or at once if this process dies; not at all if it is dropped before.
#[must_use = "it thaws nothing once it is dropped"]
pub(crate) struct Thaw {
    process: Child,
    line: ChildStdin,
}

impl Thaw {
    /// A process of its own waits for words, and thaws `dir` if the next is not there in time.
    pub(crate) fn later(dir: impl AsRef<Path>, after: Duration) -> Self {
        let mut process = Command::new("bash")
            .args(["-c", WAIT])
            .arg(after.as_secs_f64().to_string())
            .arg(dir.as_ref())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = process.stdin.take().unwrap();
        Self { process, line }
    }

    /// Begins the time anew.
    pub(crate) fn postpone(&mut self) {
        self.line.write_all(b"later\n").ok();
    }

    /// Whether it has done so: then something was frozen for too long.
    pub(crate) fn has_come(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }
}

impl Drop for Thaw {
    fn drop(&mut self) {
        self.line.write_all(b"never\n").ok();
        self.process.wait().ok();
    }
}
