//! `lovol df`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root};
use crate::complete::size;
use crate::error::{Error, Result};
use crate::pool::Place;
use crate::shares::Shares;
use crate::size::Size;
use crate::space::{Candidates, Space};

/// Show what the pool has, has promised, and could still be asked for
///
/// PROMISED is the sum of the volumes' sizes. CLAIMABLE is what they could still take in the worst
/// case, if every block of them were written: where that is more than is free, writing may fail.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol df
  lovol df --plan-free 20G      which snapshots to delete for that")]
pub struct Df {
    /// Name a small set of snapshots without which so much more would be free
    #[arg(long, value_name = "SIZE", add = size())]
    plan_free: Option<Size>,

    /// Sizes in bytes
    #[arg(short, long)]
    bytes: bool,
}

impl Df {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool()?;
        let index = pool.index()?;
        let shares = Shares::read(&pool, &index)?;
        if let Some(wanted) = self.plan_free {
            let candidates = Candidates::find(&pool, &index)?;
            return show_plan(&shares, wanted, &candidates, context);
        }
        let space = Space::look(&pool, &index, &shares)?;
        if context.output.is_json() {
            return context.output.json("pools", &[space]);
        }
        let number = |bytes: u64| {
            if self.bytes {
                bytes.to_string()
            } else {
                Size(bytes).to_string()
            }
        };
        let mut lines = vec![
            format!("size:        {}", number(space.size)),
            format!("free:        {}", number(space.free)),
            format!("allocated:   {}", number(space.allocated)),
            format!("in trash:    {}", number(space.trash)),
            format!(
                "promised:    {} ({:.2} times the size)",
                number(space.promised),
                space.overcommit
            ),
            format!("claimable:   {}", number(space.claimable)),
        ];
        if let Some(beneath) = space.beneath {
            lines.push(format!(
                "beneath:     {} free for the pool's own sparse image",
                number(beneath)
            ));
        }
        context.output.lines(&lines)
    }
}

/// A set of snapshots without which so much more would be free, or why there is none.
fn show_plan(
    shares: &Shares,
    wanted: Size,
    candidates: &Candidates,
    context: &Context<'_>,
) -> Result<()> {
    let chosen = shares.plan_free(wanted.0, &candidates.places, &candidates.instants);
    let freed = shares.taken(&chosen).exclusive;
    let names: Vec<String> = chosen.iter().map(Place::target).collect();
    let value = json!({"snapshots": names, "freed": freed});
    if freed < wanted.0 {
        return Err(Error::refused(
            format!("cannot free {wanted}"),
            format!("all snapshots that may go give {}{}", Size(freed), some(&names)),
        )
        .with_hint("'lovol trim --all' and 'lovol purge --all' may give more, and so may the newest of each volume and what is held or kept by a policy"));
    }
    context
        .output
        .remark(&format!("deleting these frees {}", Size(freed)));
    context.output.result(&names, "plan", &[value])
}

/// Names in an error: not too many of them.
fn some(names: &[String]) -> String {
    const MOST: usize = 10;
    match names.len() {
        0 => String::new(),
        count if count <= MOST => format!(": {}", names.join(" ")),
        count => format!(": {} and {} more", names[..MOST].join(" "), count - MOST),
    }
}
