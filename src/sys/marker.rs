//! The marker of a freeze: a file in `/run/lovol` that says what is frozen, by whom, and how far
//! it has got, readable by whoever comes when both the process and its guardian are dead.
//!
//! ```text
//! /run/lovol/          0700, root's
//!   freeze-PID-N       bytes 0..4: the state, mapped by main and guardian alike
//!                      bytes 4096..: the note, JSON
//! ```
//! Main and guardian share one flock on it: a marker whose lock is free belongs to the dead.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::sys::ioctl::SharedWord;

/// Where markers are, and what else ends with the machine.
pub(crate) const DIR: &str = "/run/lovol";
const NOTE_OFFSET: usize = 4096;

/// How far a freeze has got.  Stored right after each ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was tried yet.
    Idle,
    /// FIFREEZE is about to be called, or is being carried out.
    Intent,
    /// It is frozen, by us.
    Frozen,
    /// It was frozen by somebody else, and is theirs to thaw.
    NotOurs,
    /// It was thawed.
    Thawed,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Idle,
        Self::Intent,
        Self::Frozen,
        Self::NotOurs,
        Self::Thawed,
    ];

    fn from_word(word: u32) -> Self {
        // A word that nobody of ours has stored tells nothing, and nothing is thawed for it.
        Self::ALL
            .into_iter()
            .find(|state| *state as u32 == word)
            .unwrap_or(Self::Idle)
    }

    /// Whether the filesystem may be frozen by us.
    pub fn may_be_frozen(self) -> bool {
        matches!(self, Self::Intent | Self::Frozen)
    }
}

/// What is being frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The process that freezes.
    pub pid: u32,
    /// N of `/dev/loopN` that the filesystem is on.
    pub loop_number: u32,
    /// `st_dev` of the image that the device is bound to.
    pub device: u64,
    /// `st_ino` of that image.
    pub inode: u64,
    /// The filesystem's type.
    pub fstype: String,
    /// What a person calls it.
    pub name: String,
    /// Whether it makes grace periods short meanwhile ([`crate::sys::rcu`]).
    #[serde(default)]
    pub expedites: bool,
}

/// A marker that this process made.
#[derive(Debug)]
pub struct Marker {
    file: File,
    path: PathBuf,
    word: SharedWord,
}

impl Marker {
    /// Writes a marker in state [`State::Idle`].
    pub fn create(note: &Note) -> Result<Self> {
        make_dir()?;
        let (mut file, path) = new_file(note.pid)?;
        let made = Self::fill(&mut file, note);
        match made {
            Ok(word) => Ok(Self { file, path, word }),
            Err(error) => {
                drop(std::fs::remove_file(&path));
                Err(Error::io("write", path, error))
            }
        }
    }

    fn fill(file: &mut File, note: &Note) -> std::io::Result<SharedWord> {
        // A check may just be looking whether it belongs to the dead.
        rustix::fs::flock(&*file, FlockOperation::LockExclusive)?;
        // The page of the word is written, not left a hole: a store into a hole of a full /run
        // would kill us.
        let mut bytes = vec![0; NOTE_OFFSET];
        bytes.extend(serde_json::to_vec(note)?);
        file.write_all(&bytes)?;
        let word = SharedWord::map(file)?;
        // Touched now, so that no store inside the freeze needs a page.
        word.set(State::Idle as u32);
        Ok(word)
    }

    /// How far it has got.
    pub fn state(&self) -> State {
        State::from_word(self.word.get())
    }

    /// Stores how far it has got; neither allocates nor calls the kernel.
    pub fn set(&self, state: State) {
        self.word.set(state as u32);
    }

    /// Stores that FIFREEZE succeeded; not if the guardian has thawed it since.
    pub fn set_frozen(&self) -> bool {
        self.word
            .replace(State::Intent as u32, State::Frozen as u32)
    }

    /// Removes the marker: there is nothing left that could be frozen by us.
    pub fn remove(&self) {
        // It may be gone already: the guardian removes it too.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Drop for Marker {
    /// What may still be frozen keeps its marker.
    fn drop(&mut self) {
        if !self.state().may_be_frozen() {
            self.remove();
        }
    }
}

impl AsFd for Marker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A file of a name that no marker has: one that is there may be all that is known of a freeze.
fn new_file(pid: u32) -> Result<(File, PathBuf)> {
    for number in 0.. {
        let path = Path::new(DIR).join(format!("freeze-{pid}-{number}"));
        let mut options = File::options();
        match options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
        {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => return result.map(|file| (file, path.clone())).doing("make", path),
        }
    }
    Err(Error::refused("cannot make a marker", "there are too many"))
}

/// A marker whose process and guardian are both dead.
#[derive(Debug)]
pub struct Abandoned {
    /// Holds its lock, so that only one of several who find it acts on it.
    _file: File,
    /// Its file.
    pub path: PathBuf,
    /// What was being frozen; none where its maker died before it could have frozen anything.
    pub note: Option<Note>,
    /// How far it had got.
    pub state: State,
}

impl Abandoned {
    /// What may still be frozen for it.
    pub fn frozen(&self) -> Option<&Note> {
        self.note.as_ref().filter(|_| self.state.may_be_frozen())
    }
}

/// The markers that the dead have left.  Needs root.
pub fn abandoned() -> Result<Vec<Abandoned>> {
    let entries = match std::fs::read_dir(DIR) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", DIR, error)),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("freeze-") {
            found.extend(read_abandoned(&entry.path())?);
        }
    }
    Ok(found)
}

fn read_abandoned(path: &Path) -> Result<Option<Abandoned>> {
    let mut file = match File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path, error)),
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).doing("read", path)?;
    let (note, state) = match parse(&bytes) {
        Some((note, state)) => (Some(note), state),
        // It has not come to its lock yet.
        None if is_maker_alive(path) => return Ok(None),
        None => (None, State::Idle),
    };
    Ok(Some(Abandoned {
        _file: file,
        path: path.to_owned(),
        note,
        state,
    }))
}

/// Whether the process that a marker is named after is there.
fn is_maker_alive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let pid = name.split('-').nth(1).unwrap_or_default();
    Path::new("/proc").join(pid).exists()
}

/// What a marker says; nothing without a note, as its maker died before it could have frozen
/// anything.
pub fn parse(bytes: &[u8]) -> Option<(Note, State)> {
    let note = serde_json::from_slice(bytes.get(NOTE_OFFSET..)?).ok()?;
    let word = u32::from_ne_bytes(*bytes.first_chunk()?);
    Some((note, State::from_word(word)))
}

/// Makes `/run/lovol`, or makes sure that nobody but root could have put it there.
pub(crate) fn make_dir() -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(DIR) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("make", DIR, error)),
    }
    let metadata = std::fs::symlink_metadata(DIR).doing("look at", DIR)?;
    if metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::refused(
        format!("cannot use {DIR}"),
        "it is not a directory that only root may write to",
    ))
}
