//! `lovol release`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, for_each, require_root, snapshot_places, target_parser};
use crate::complete::{Which, snapshots};
use crate::error::Result;
use crate::holds;
use crate::plan::Step;
use crate::pool::Place;
use crate::target::Target;

/// End a hold on snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol release home@before-upgrade
  lovol release home@before-upgrade --tag backup")]
pub struct Release {
    /// Snapshots
    #[arg(value_name = "TARGET", required = true, value_parser = target_parser(), add = snapshots(Which::Held))]
    targets: Vec<Target>,

    /// Whose hold
    #[arg(long, value_name = "TAG", default_value = holds::TAG, value_parser = holds::parse_tag)]
    tag: String,
}

impl Release {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let places = snapshot_places(&pool, &self.targets)?;
        let index = pool.index()?;
        for place in &places {
            holds::must_hold(&pool, place, &self.tag, place.record_in(&index)?)?;
        }
        let step = |place: &Place| Step::Release {
            snapshot: place.target(),
            tag: self.tag.clone(),
        };
        let steps: Vec<Step> = places.iter().map(step).collect();
        if context.shows_or_begins(&steps)? {
            return Ok(());
        }
        let values = for_each(&places, "released", Place::target, |place| {
            let record = holds::release(&pool, place, &self.tag)?;
            Ok(json!({"name": place.target(), "holds": holds::shown(&pool, &record)}))
        })?;
        context.output.result(&[], "holds", &values)
    }
}
