//! `lovol trim`

use clap::Args;

use crate::commands::{Context, failed, for_each, require_root};
use crate::complete::{Which, volumes};
use crate::error::Result;
use crate::index::Index;
use crate::name::Name;
use crate::pool::Pool;
use crate::size::Size;
use crate::trim::{Trimmed, is_read_only, step, trim, wanted};
use crate::usage::Usage;

/// Give back to the pool what is not used in volumes any more
///
/// What was deleted in a volume still takes space in the pool until it is trimmed. What snapshots
/// have as well stays until they are deleted, and is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol trim home
  lovol trim --all")]
pub struct TrimVolumes {
    /// Volumes
    #[arg(
        value_name = "NAME",
        required_unless_present = "all",
        conflicts_with = "all",
        add = volumes(Which::Any)
    )]
    names: Vec<Name>,

    /// All volumes with a filesystem, but for those with the property trim=off or mounted read-only
    #[arg(long)]
    all: bool,
}

impl TrimVolumes {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let names = self.names(&pool, &pool.index()?)?;
        if context.shows(|| Ok(names.iter().map(step).collect()))? {
            return Ok(());
        }
        if self.all {
            return all(&names, context, |name| {
                trim(&pool, name, context.observer())
            });
        }
        let trimmed = for_each(&names, "trimmed", Name::to_string, |name| {
            trim(&pool, name, context.observer())
        })?;
        print(&trimmed, context)
    }

    fn names(&self, pool: &Pool, index: &Index) -> Result<Vec<Name>> {
        if self.all {
            let usage = Usage::look()?;
            let mut wanted = wanted(index);
            wanted.retain(|name| !is_read_only(pool, &usage, name).unwrap_or(false));
            return Ok(wanted);
        }
        for name in &self.names {
            index.volume(name)?;
        }
        Ok(self.names.clone())
    }
}

/// One that fails does not stop the rest.
fn all(
    names: &[Name],
    context: &Context<'_>,
    mut work: impl FnMut(&Name) -> Result<Trimmed>,
) -> Result<()> {
    let (mut trimmed, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match work(name) {
            Ok(done) => trimmed.push(done),
            Err(error) => errors.push(error),
        }
    }
    print(&trimmed, context)?;
    failed(errors, !trimmed.is_empty(), context)
}

fn print(trimmed: &[Trimmed], context: &Context<'_>) -> Result<()> {
    let line = |done: &Trimmed| {
        let pinned = match done.pinned {
            0 => String::new(),
            bytes => format!(
                ", {} more when snapshots that have it are deleted",
                Size(bytes)
            ),
        };
        format!("{}: {} given back{pinned}", done.name, Size(done.freed))
    };
    let lines: Vec<String> = trimmed.iter().map(line).collect();
    context.output.result(&lines, "trimmed", trimmed)
}
