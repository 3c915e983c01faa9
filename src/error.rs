//! One error type that holds facts, one place that words them, one match that gives the exit code.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::index::{Unreadable, VERSION};

/// What lovol's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the facts that the message needs.
#[derive(Debug)]
pub enum Error {
    /// A system call failed: what was tried, on what, why.
    Io {
        /// A verb in the infinitive, such as `open`.
        action: &'static str,
        /// A path or a name.
        on: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// An argument does not mean anything.
    Usage {
        /// What is wrong with it.
        why: String,
        /// What to type instead.
        hint: String,
    },
    /// Root is needed.
    NotRoot,
    /// There is no pool at this place.
    NoPool {
        /// Where one was looked for.
        dir: PathBuf,
    },
    /// The pool's own filesystem is not mounted: the marker beneath says so.
    PoolNotMounted {
        /// The mount point.
        dir: PathBuf,
        /// The image that belongs there.
        image: PathBuf,
    },
    /// Others may write to the pool, or replace it.
    UnsafePool {
        /// The directory that others may change.
        dir: PathBuf,
        /// How they may.
        why: String,
    },
    /// A filesystem lacks what a pool needs.
    NotForPools {
        /// The directory tried.
        dir: PathBuf,
        /// Its filesystem's type.
        fstype: String,
        /// What it lacks.
        lacks: String,
    },
    /// No such volume, snapshot, or deleted volume.
    NotFound {
        /// Such as `volume named`.
        kind: &'static str,
        /// The name that was given.
        name: String,
        /// What to type instead.
        hint: Option<String>,
    },
    /// A name or path is taken.
    Exists {
        /// Such as `volume home`.
        what: String,
        /// What to type instead.
        hint: Option<String>,
    },
    /// Something is in use.
    InUse {
        /// Such as `volume home`.
        what: String,
        /// Who or what uses it, such as `mounted on /home`.
        by: Vec<String>,
        /// What to do.
        hint: Option<String>,
    },
    /// Another process holds a lock for longer than we are to wait.
    Locked {
        /// What is locked.
        what: String,
        /// The holder, if it could be found: such as `lovol, pid 12`.
        holder: Option<String>,
        /// How long we waited.
        waited: Duration,
    },
    /// Not done, because it would be wrong, or because it did not turn out right.
    Refused {
        /// What was to be done, on what: such as `cannot snapshot home`.
        what: String,
        /// Why not.
        why: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// Cloning would have kept, or has kept, something frozen for too long; it is thawed.
    FrozenTooLong {
        /// What was frozen.
        name: String,
        /// The longest time.
        limit: Duration,
    },
    /// A tool of the guest's filesystem is not installed.
    NoTool {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
    },
    /// A tool failed.
    Tool {
        /// The command as it was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// The index cannot be used.
    Index {
        /// Its path.
        path: PathBuf,
        /// Why not.
        why: Unreadable,
    },
    /// A check found something.
    Wrong {
        /// How many things.
        findings: usize,
        /// Whether repairing mends one of them.
        is_mendable: bool,
    },
    /// Where in a file it is, that cannot be followed or was not done.
    At {
        /// `FILE:LINE`.
        place: String,
        /// What is wrong.
        why: Box<Error>,
    },
    /// Some of several things were not done; each was said.
    Some {
        /// How many.
        failed: usize,
        /// Whether others were done.
        is_partly: bool,
    },
    /// Some of several things were done, and stay.
    Partly {
        /// What was done, such as `/mnt/a was unmounted`.
        done: String,
        /// Why the next was not.
        why: Box<Error>,
    },
    /// Some of several steps were done, could not be taken back, and are finished by the next lovol.
    Unfinished {
        /// Why the others were not done.
        why: Box<Error>,
    },
}

impl Error {
    /// The exit code: 1 failed, 2 wrong usage, 3 locked too long, 4 partly done.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Locked { .. } => 3,
            Self::Partly { .. }
            | Self::Unfinished { .. }
            | Self::Some {
                is_partly: true, ..
            } => 4,
            Self::At { why, .. } => why.exit_code(),
            _ => 1,
        }
    }

    /// What the user can type or do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { action, on, source } => io_hint(action, on, source),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Index {
                why: Unreadable::Newer(_),
                ..
            } => Some("use the newer lovol that wrote it".into()),
            Self::Index { .. } => Some("'lovol check --repair' rebuilds it from the images".into()),
            Self::NotRoot => Some("run it as root, for example with sudo".into()),
            Self::NoPool { dir } => Some(format!(
                "'lovol init {0}' makes one; where {0} has no reflinks, 'lovol init --loop 100G {0}' does",
                show_path(dir)
            )),
            Self::PoolNotMounted { dir, image } => Some(format!(
                "mount it: mount -o loop {} {}",
                show_path(image),
                show_path(dir)
            )),
            Self::UnsafePool { dir, .. } => {
                Some(format!("chown root {0} && chmod go-w {0}", show_path(dir)))
            }
            Self::NotForPools { dir, .. } => Some(format!(
                "'lovol init --loop 100G {}' puts the pool on an XFS image of its own",
                show_path(dir)
            )),
            Self::NotFound { hint, .. }
            | Self::Exists { hint, .. }
            | Self::InUse { hint, .. }
            | Self::Refused { hint, .. } => hint.clone(),
            Self::Locked { .. } => Some("--wait SECONDS waits longer".into()),
            Self::FrozenTooLong { .. } => Some(
                "--crash takes it without freezing; 'lovol snapshot' has --max-freeze and --if-late as well".into(),
            ),
            Self::NoTool { package, .. } => Some(format!("install the package {package}")),
            Self::Tool { .. } | Self::Some { .. } => None,
            Self::Wrong { is_mendable, .. } => is_mendable.then(|| {
                "'lovol check --repair' mends what can be mended".into()
            }),
            Self::Partly { why, .. } | Self::At { why, .. } => why.hint(),
            Self::Unfinished { .. } => Some(
                "any command that changes the pool goes on with it, such as 'lovol check --repair'"
                    .into(),
            ),
        }
    }

    /// The errno, if a system call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// A failed system call.
    pub fn io(action: &'static str, on: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io {
            action,
            on: on.as_ref().to_string_lossy().into_owned(),
            source,
        }
    }

    /// A refusal without a hint.
    pub fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            why: why.into(),
            hint: None,
        }
    }

    /// A wrong argument.
    pub fn usage(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage {
            why: why.into(),
            hint: hint.into(),
        }
    }

    /// The same error, on this line of a file.
    #[must_use]
    pub fn at(self, file: &str, line: usize) -> Self {
        Self::At {
            place: format!("{file}:{line}"),
            why: Box::new(self),
        }
    }

    /// The same error with a hint, where it may have one.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Self::NotFound { hint, .. }
            | Self::Exists { hint, .. }
            | Self::InUse { hint, .. }
            | Self::Refused { hint, .. } => *hint = Some(text.into()),
            _ => {}
        }
        self
    }
}

/// What is tried when a guest is to write back.
pub const WRITE_BACK_GUEST: &str = "write back the filesystem of";

fn io_hint(action: &str, on: &str, source: &io::Error) -> Option<String> {
    match source.raw_os_error()? {
        libc::ENOSPC if action == "allocate" => Some(
            "there is not so much free: take a smaller size or, for a new pool, --sparse".into(),
        ),
        libc::ENOSPC | libc::EDQUOT => {
            Some("that filesystem is full; in a pool, delete snapshots or purge the trash".into())
        }
        libc::EIO | libc::EROFS if action == WRITE_BACK_GUEST => Some(
            "it may have given up: 'lovol check' says what to do then".into(),
        ),
        libc::EROFS => Some(format!("the filesystem of {on} is mounted read-only")),
        libc::EACCES | libc::EPERM if !nix::unistd::geteuid().is_root() => {
            Some("run it as root, for example with sudo".into())
        }
        libc::EIO => Some("the kernel's log ('dmesg') says which device failed, 'lovol check' which volumes have given up".into()),
        libc::ENOENT if on == "/dev/loop-control" => {
            Some("load the kernel's loop module: modprobe loop".into())
        }
        libc::ETXTBSY if action == "clone" => Some("an active swap file cannot be cloned".into()),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, on, source } => {
                write!(f, "cannot {action} {}: {}", printable(on), describe(source))
            }
            Self::Usage { why, .. } => f.write_str(&printable(why)),
            Self::NotRoot => f.write_str("this needs root"),
            Self::NoPool { dir } => write!(f, "no pool at {}", show_path(dir)),
            Self::PoolNotMounted { dir, image } => write!(
                f,
                "the pool's own filesystem, {}, is not mounted at {}",
                show_path(image),
                show_path(dir)
            ),
            Self::UnsafePool { dir, why } => {
                write!(f, "cannot use the pool: {} {why}", show_path(dir))
            }
            Self::NotForPools { dir, fstype, lacks } => write!(
                f,
                "cannot make a pool at {}: its filesystem ({}) {lacks}",
                show_path(dir),
                printable(fstype)
            ),
            Self::NotFound { kind, name, .. } => write!(f, "no {kind} {}", printable(name)),
            Self::Exists { what, .. } => write!(f, "{} exists already", printable(what)),
            Self::InUse { what, by, .. } => {
                write!(
                    f,
                    "{} is in use: {}",
                    printable(what),
                    printable(&by.join(", "))
                )
            }
            Self::Locked {
                what,
                holder,
                waited,
            } => {
                write!(f, "{} is locked", printable(what))?;
                if let Some(holder) = holder {
                    write!(f, " by {}", printable(holder))?;
                }
                write!(f, "; waited {} s for it", waited.as_secs())
            }
            Self::Refused { what, why, .. } => write!(f, "{}: {}", printable(what), printable(why)),
            Self::FrozenTooLong { name, limit } => write!(
                f,
                "cannot take {}: it would be frozen for longer than {:?}; nothing was kept",
                printable(name),
                limit
            ),
            Self::NoTool { program, .. } => write!(f, "{program} is not installed"),
            Self::Tool { command, said } => {
                write!(
                    f,
                    "'{}' failed: {}",
                    printable(command),
                    printable(said.trim())
                )
            }
            Self::Index { path, why } => {
                write!(f, "cannot use the index {}: ", show_path(path))?;
                match why {
                    Unreadable::Missing => f.write_str("it is missing"),
                    Unreadable::Garbled(how) => write!(f, "it is garbled ({})", printable(how)),
                    Unreadable::Newer(version) => write!(
                        f,
                        "its version is {version}, and this lovol knows versions up to {VERSION}"
                    ),
                    Unreadable::OfAnother => f.write_str("it belongs to another pool"),
                }
            }
            Self::Wrong { findings: 1, .. } => f.write_str("1 thing is wrong"),
            Self::Wrong { findings, .. } => write!(f, "{findings} things are wrong"),
            Self::At { place, why } => write!(f, "{}: {why}", printable(place)),
            Self::Some { failed: 1, .. } => f.write_str("1 thing was not done"),
            Self::Some { failed, .. } => write!(f, "{failed} things were not done"),
            Self::Partly { done, why } => write!(f, "{why}; {}", printable(done)),
            Self::Unfinished { why } => {
                write!(f, "{why}; what was done until then could not be taken back")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Partly { why, .. } | Self::Unfinished { why } | Self::At { why, .. } => Some(why),
            _ => None,
        }
    }
}

/// The kernel's reason without Rust's `(os error 5)`.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => printable(&error.to_string()),
    }
}

/// The text with every byte that a terminal would obey shown escaped.
///
/// Newlines stay out as well: one message, one line; a tool's several lines are joined by `; `.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("; "),
            c if c.is_control() || is_bidirectional_control(c) => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Characters that reorder the text around them, and so can show one name as another.
fn is_bidirectional_control(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A path as it may be shown.
pub fn show_path(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// The same in JSON, which is Unicode: what is not becomes U+FFFD.
///
/// # Errors
/// None of its own: a path alone fails where it is no Unicode.
pub fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Says what was tried, on what, when a system call fails.
pub trait Context<T> {
    /// `action` is a verb in the infinitive, such as `open`; `on` a path or a name.
    fn doing(self, action: &'static str, on: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing(self, action: &'static str, on: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| Error::io(action, on, error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            printable("a\x1b]0;x\x07b\u{202e}"),
            "a\\u{1b}]0;x\\u{7}b\\u{202e}"
        );
        assert_eq!(printable("first\nsecond"), "first; second");
    }
}
