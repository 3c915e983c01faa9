//! Watching the pool's free space, and making room before it ends.
//!
//! ```text
//! enough   nothing
//! warn     it is said, and the admin's command is run, once each time it comes to that
//! low      mounted volumes are trimmed, and all pruned by their policies, until it is no longer so
//! ```
//! Where the pool is full, its guests get I/O errors: that is what this is to prevent.

use std::fmt;

use crate::error::{Error, Result};
use crate::name::Name;
use crate::plan::Observer;
use crate::pool::{Pool, settings};
use crate::prune;
use crate::size::Size;
use crate::space;
use crate::trim;
use crate::usage::Usage;

/// How much is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// More than `warn`.
    Enough,
    /// No more than `warn`.
    Warn,
    /// No more than `low`.
    Low,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enough => "enough",
            Self::Warn => "warn",
            Self::Low => "low",
        })
    }
}

/// How much is free, and what that means by the pool's settings.
pub fn look(pool: &Pool) -> Result<(Level, Size)> {
    let (size, free) = space::size_and_free(pool)?;
    let is_at = |key| settings::amount(pool, key).is_some_and(|amount| free <= amount.of(size));
    let level = match (is_at(settings::WARN), is_at(settings::LOW)) {
        (_, true) => Level::Low,
        (true, false) => Level::Warn,
        (false, false) => Level::Enough,
    };
    Ok((level, Size(free)))
}

/// Trims the mounted volumes if that is wanted, and prunes all if that was not enough; tells what it did,
/// and returns what trimming freed.  What fails is told and does not stop the rest.
pub fn make_room(
    pool: &Pool,
    trims: bool,
    observer: &dyn Observer,
    mut tell: impl FnMut(String),
) -> Result<u64> {
    let mut freed = 0;
    let to_trim = if trims { to_trim(pool)? } else { Vec::new() };
    for name in to_trim {
        match trim::trim(pool, &name, observer) {
            Ok(done) if done.freed > 0 => {
                freed += done.freed;
                tell(format!("trimmed {name}: {} given back", Size(done.freed)));
            }
            Ok(_) => {}
            Err(error) => observer.warn(&error.to_string()),
        }
    }
    if look(pool)?.0 < Level::Low {
        return Ok(freed);
    }
    let (verdicts, failures, trash) = to_prune(pool)?;
    let pruned = prune::carry_out(pool, &verdicts, &trash, observer);
    for name in &pruned.snapshots {
        tell(format!("deleted {name}"));
    }
    for id in &pruned.trash {
        tell(format!("purged {id}"));
    }
    for error in failures.iter().chain(&pruned.failures) {
        observer.warn(&error.to_string());
    }
    Ok(freed)
}

/// What [`make_room`] does, a line each: the second part only where the first is not enough.
pub fn plan(pool: &Pool) -> Result<(Vec<String>, Vec<String>)> {
    let trimmed = to_trim(pool)?.into_iter();
    let (verdicts, _, trash) = to_prune(pool)?;
    let going = verdicts.into_iter().filter(prune::Verdict::goes);
    let going = going.map(|verdict| format!("delete {}", verdict.name));
    let purged = trash.into_iter().map(|id| format!("purge {id}"));
    Ok((
        trimmed.map(|name| format!("trim {name}")).collect(),
        going.chain(purged).collect(),
    ))
}

/// Where they are mounted: to mount one writes to it, and there is little room.
fn to_trim(pool: &Pool) -> Result<Vec<Name>> {
    let usage = Usage::look()?;
    let mut wanted = trim::wanted(&pool.index()?);
    wanted.retain(|name| trim::is_mounted(pool, &usage, name).unwrap_or(false));
    Ok(wanted)
}

fn to_prune(pool: &Pool) -> Result<(Vec<prune::Verdict>, Vec<Error>, Vec<String>)> {
    let index = pool.index()?;
    let (verdicts, failures) = prune::judge(pool, &index, &prune::Request::default())?;
    let trash = prune::old_trash(pool, &index);
    Ok((verdicts, failures, trash))
}
