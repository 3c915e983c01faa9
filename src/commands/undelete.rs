//! `lovol undelete`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root};
use crate::complete::trash;
use crate::error::Result;
use crate::name::Name;
use crate::trash;

/// Bring a deleted volume back from the trash, with all its snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol list --trash                        what can be brought back
  lovol undelete home                       the latest of this name
  lovol undelete home@20261121T101500Z --as home2")]
pub struct Undelete {
    /// The volume's name, or its name in the trash
    #[arg(value_name = "NAME", add = trash())]
    name: String,

    /// Bring it back under this name
    #[arg(long = "as", value_name = "NEW")]
    new_name: Option<Name>,
}

impl Undelete {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let plan = || {
            let index = pool.index()?;
            trash::prepare_undelete(&pool, &index, &self.name, self.new_name.as_ref())
                .map(|(steps, _)| steps)
        };
        if context.shows(plan)? {
            return Ok(());
        }
        let name = trash::undelete(
            &pool,
            &self.name,
            self.new_name.as_ref(),
            context.observer(),
        )?;
        context
            .output
            .result(&[name.to_string()], "undeleted", &[json!({"name": name})])
    }
}
