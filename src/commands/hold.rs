//! `lovol hold`

use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use crate::commands::{Context, for_each, require_root, snapshot_places, target_parser};
use crate::complete::{Which, snapshots};
use crate::error::Result;
use crate::holds;
use crate::plan::Step;
use crate::pool::Place;
use crate::target::Target;

/// Keep snapshots from being deleted
///
/// Neither 'lovol delete' nor 'lovol prune' takes a snapshot that is held, and its volume is not
/// deleted, until every tag is released or its time is over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol hold home@before-upgrade
  lovol hold home@before-upgrade --tag backup --until 30d
  lovol hold home@monday home@friday --until 2031-12-31")]
pub struct Hold {
    /// Snapshots
    #[arg(value_name = "TARGET", required = true, value_parser = target_parser(), add = snapshots(Which::Any))]
    targets: Vec<Target>,

    /// Who wants it kept
    #[arg(long, value_name = "TAG", default_value = holds::TAG, value_parser = holds::parse_tag)]
    tag: String,

    /// The hold ends then: a span (12h, 30d, 4w), a date or a time
    #[arg(long, value_name = "WHEN", value_parser = crate::time::parse_until)]
    until: Option<Timestamp>,
}

impl Hold {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let places = snapshot_places(&pool, &self.targets)?;
        let step = |place: &Place| Step::Hold {
            snapshot: place.target(),
            tag: self.tag.clone(),
        };
        let steps: Vec<Step> = places.iter().map(step).collect();
        if context.shows_or_begins(&steps)? {
            return Ok(());
        }
        let values = for_each(&places, "held", Place::target, |place| {
            let record = holds::hold(&pool, place, &self.tag, self.until)?;
            Ok(json!({"name": place.target(), "holds": holds::shown(&pool, &record)}))
        })?;
        context.output.result(&[], "holds", &values)
    }
}
