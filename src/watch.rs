//! Watching the pool's free space, and making room before it ends.
//!
//! ```text
//! enough   nothing
//! warn     it is said, and the admin's command is run, once each time it comes to that
//! low      mounted volumes are trimmed, and all pruned by their policies, until it is no longer so
//! ```
//! Where the pool is full, its guests get I/O errors: that is what this is to prevent.

use std::fmt;

use crate::error::Result;
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
    // Where they are mounted: to mount one writes to it, and there is little room.
    let usage = Usage::look()?;
    let mut freed = 0;
    let wanted = trim::wanted(&pool.index()?).into_iter();
    for name in wanted.filter(|name| trims && trim::is_mounted(pool, &usage, name).unwrap_or(false))
    {
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
    let index = pool.index()?;
    let (verdicts, failures) = prune::judge(pool, &index, &prune::Request::default())?;
    // By count, whatever the clock says; by age only where it can be believed.
    let trash = match prune::doubt(pool) {
        None => prune::old_trash(pool, &index),
        Some(_) => Vec::new(),
    };
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
