//! `lovol purge`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root};
use crate::complete::trash;
use crate::error::Result;
use crate::trash::{self, count};

/// Remove deleted volumes for good, with their snapshots
///
/// This is final, so it asks; -y answers, and off a terminal nothing else does.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol purge home                      the latest of this name
  lovol purge home@20261121T101500Z     this one
  lovol purge --all -y                  all of the trash")]
pub struct Purge {
    /// Names of deleted volumes
    #[arg(
        value_name = "NAME",
        add = trash(),
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    names: Vec<String>,

    /// Purge the whole trash
    #[arg(long)]
    all: bool,
}

impl Purge {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let index = pool.index()?;
        let mut ids: Vec<String> = if self.all {
            index.trash.keys().cloned().collect()
        } else {
            let found = self
                .names
                .iter()
                .map(|name| trash::find(&index, name).map(|(id, _)| id.clone()));
            found.collect::<Result<_>>()?
        };
        ids.sort();
        ids.dedup();
        let trashed = |id: &String| index.trash.get(id);
        let plan = || {
            let trashed = ids.iter().filter_map(|id| Some((trashed(id)?, id)));
            Ok(trashed
                .flat_map(|(trashed, id)| trash::plan_purge(trashed, id))
                .collect())
        };
        if context.shows(plan)? {
            return Ok(());
        }
        if ids.is_empty() {
            context.output.remark("the trash is empty");
            return context.output.result(&[], "purged", &[] as &[&str]);
        }
        let shown = ids.iter().map(|id| {
            format!(
                "{id} ({})",
                count(trashed(id).map_or(0, |t| t.volume.snapshots.len()))
            )
        });
        context.confirm(&format!(
            "Remove for good: {}?",
            shown.collect::<Vec<_>>().join(", ")
        ))?;
        trash::purge(&pool, &ids, context.observer())?;
        context
            .output
            .remark(&format!("removed for good: {}", ids.join(", ")));
        let values: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
        context.output.result(&[], "purged", &values)
    }
}
