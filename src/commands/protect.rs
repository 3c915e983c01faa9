//! `lovol protect`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, for_each, require_root};
use crate::complete::{Which, volumes};
use crate::error::Result;
use crate::name::Name;
use crate::plan::Step;
use crate::pool::Place;
use crate::properties::{self, ON, PROTECT};

/// Keep volumes from being deleted or replaced
///
/// It is the property 'protect', which 'lovol get' shows.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol protect home
  lovol protect --off home")]
pub struct Protect {
    /// Volumes
    #[arg(value_name = "NAME", required = true, add = volumes(Which::Any))]
    names: Vec<Name>,

    /// End it
    #[arg(long)]
    off: bool,
}

impl Protect {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let index = pool.index()?;
        for name in &self.names {
            index.volume(name)?;
        }
        let value = (!self.off).then(|| ON.to_owned());
        let step = |name: &Name| Step::Set {
            of: name.to_string(),
            key: PROTECT.into(),
            value: value.clone(),
        };
        let steps: Vec<Step> = self.names.iter().map(step).collect();
        if context.shows_or_begins(&steps)? {
            return Ok(());
        }
        let changes = [(PROTECT.to_owned(), value.clone())].into();
        let places: Vec<Place> = self.names.iter().map(Place::volume).collect();
        let verb = if self.off {
            "not protected any more"
        } else {
            "protected"
        };
        let values = for_each(&places, verb, Place::target, |place| {
            properties::set(&pool, place, &changes)?;
            Ok(json!({"name": place.target(), "protected": !self.off}))
        })?;
        context.output.result(&[], "volumes", &values)
    }
}
