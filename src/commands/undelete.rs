//! `lovol undelete`

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use crate::commands::{Context, for_each, require_root};
use crate::complete::trash;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::trash;

/// Bring deleted volumes back from the trash, with all their snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol list --trash                        what can be brought back
  lovol undelete home                       the latest of this name
  lovol undelete home db
  lovol undelete home@20261121T101500Z --as home2")]
pub struct Undelete {
    /// Volumes' names, or their names in the trash
    #[arg(value_name = "NAME", required = true, add = trash())]
    names: Vec<String>,

    /// Bring one back under this name
    #[arg(long = "as", value_name = "NEW")]
    new_name: Option<Name>,
}

impl Undelete {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        if self.new_name.is_some() && self.names.len() > 1 {
            return Err(Error::usage(
                "--as is for one volume",
                "lovol undelete NAME --as NEW, for each",
            ));
        }
        let as_name = self.new_name.as_ref();
        let index = pool.index()?;
        let (mut steps, mut back) = (Vec::new(), BTreeSet::new());
        for name in &self.names {
            let (its_steps, new_name) = trash::prepare_undelete(&pool, &index, name, as_name)?;
            steps.extend(its_steps);
            if !back.insert(new_name.clone()) {
                return Err(Error::usage(
                    format!("{new_name} would be there twice"),
                    "name each volume once; lovol undelete NAME --as NEW brings another back",
                ));
            }
        }
        if context.shows(|| Ok(steps))? {
            return Ok(());
        }
        let back = for_each(&self.names, "undeleted", String::clone, |name| {
            trash::undelete(&pool, name, as_name, context.observer())
        })?;
        let lines: Vec<String> = back.iter().map(Name::to_string).collect();
        let values: Vec<_> = back.iter().map(|name| json!({"name": name})).collect();
        context.output.result(&lines, "undeleted", &values)
    }
}
