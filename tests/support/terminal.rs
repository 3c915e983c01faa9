//! A shell on a terminal, to which keys are typed.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wait::happens;

/// An interactive shell that completes as `completions/` says.
///
/// Its lovol answers the completion; as a command it prints its arguments, each in brackets.
pub(crate) struct Shell {
    name: &'static str,
    child: Child,
    stdin: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl Shell {
    /// `bash`, `zsh` or `fish`, in `dir`, for a pool.
    #[track_caller]
    pub(crate) fn start(name: &'static str, dir: &Path, pool: &Path) -> Self {
        write_stub(dir);
        let completions = concat!(env!("CARGO_MANIFEST_DIR"), "/completions");
        // What does not compete for the screen: no colours, no suggestions, no history.
        let (command, set_up) = match name {
            "bash" => (
                "bash --noprofile --norc -i",
                format!(
                    "PS1='$ '; bind 'set enable-bracketed-paste off'; source {completions}/lovol.bash"
                ),
            ),
            "zsh" => (
                "zsh -f -i",
                format!(
                    "PS1='$ '; unset zle_bracketed_paste; fpath=({completions} $fpath); autoload -Uz compinit; compinit -u -D"
                ),
            ),
            _ => (
                "fish --no-config --private -i",
                format!(
                    "function fish_prompt; echo '$ '; end; set fish_autosuggestion_enabled 0; source {completions}/lovol.fish"
                ),
            ),
        };
        let mut child = Command::new("script")
            .args(["-q", "-e", "-c", command, "/dev/null"])
            .current_dir(dir)
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", dir.display()),
            )
            .env("HOME", dir)
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .env("LOVOL_POOL", pool)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("script: {error}"));
        let stdin = child.stdin.take().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, copy) = (child.stdout.take().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                copy.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        let mut shell = Self {
            name,
            child,
            stdin,
            screen,
        };
        shell.types(&format!("{set_up}\r"));
        shell.types("echo rea''dy\r");
        shell.shows("ready");
        shell
    }

    /// Presses keys: `\t` is TAB, `\r` is Enter.
    pub(crate) fn types(&mut self, keys: &str) {
        self.stdin.write_all(keys.as_bytes()).unwrap();
        self.stdin.flush().unwrap();
    }

    /// Types a line, TABs in it, and Enter: the command that comes of it must be this.
    #[track_caller]
    pub(crate) fn completes(&mut self, keys: &str, command: &[&str]) {
        self.screen.lock().unwrap().clear();
        self.types(&format!("{keys}\r"));
        self.shows(&format!("ran [{}].", command.join("][")));
    }

    /// Waits until that is on the screen, and returns all that came since the last line.
    #[track_caller]
    pub(crate) fn shows(&self, text: &str) -> String {
        let screen = || self.screen.lock().unwrap().clone();
        let is_there = happens(Duration::from_secs(20), || screen().contains(text));
        assert!(
            is_there,
            "{} does not show {text:?}:\n{:?}",
            self.name,
            screen()
        );
        screen()
    }

    /// Types that, and waits until all of the words are on the screen; then clears the line.
    #[track_caller]
    pub(crate) fn lists(&mut self, keys: &str, words: &[&str]) -> String {
        self.screen.lock().unwrap().clear();
        self.types(keys);
        for word in words {
            self.shows(word);
        }
        // ^U, and something that is run, so that all is on the screen that will be.
        self.types("\x15\x15lovol end\r");
        self.shows("ran [end].")
    }
}

/// In the path before all others: the real one where a shell asks it.
fn write_stub(dir: &Path) {
    let stub = dir.join("lovol");
    let text = format!(
        "#!/bin/sh\n[ -z \"$LOVOL_COMPLETE\" ] || exec {} \"$@\"\nprintf 'ran '; printf '[%s]' \"$@\"; echo .\n",
        env!("CARGO_BIN_EXE_lovol")
    );
    fs::write(&stub, text).unwrap();
    fs::set_permissions(&stub, Permissions::from_mode(0o755)).unwrap();
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
