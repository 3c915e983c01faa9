//! `lovol resize`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root};
use crate::complete::{Which, new_size, volumes};
use crate::error::Result;
use crate::name::Name;
use crate::resize::{Amount, Resize};
use crate::size::Size;

/// Make a volume larger, or smaller where its filesystem can be
///
/// All three filesystems grow while they are mounted, or not. btrfs shrinks, mounted or not; ext4
/// shrinks while it is not mounted; XFS does not. Sizes are rounded up to 1 MiB.
///
/// Whatever ends it half way, the same command finishes it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol resize home 2G
  lovol resize home +1G
  lovol resize home -n max      what that would be")]
pub struct ResizeVolume {
    /// The volume
    #[arg(value_name = "NAME", add = volumes(Which::Any))]
    name: Name,

    /// The new size, +SIZE, -SIZE, or max: what the pool has room for now
    #[arg(value_name = "SIZE", value_parser = parse_amount, allow_hyphen_values = true, add = new_size())]
    size: Amount,
}

fn parse_amount(text: &str) -> Result<Amount, String> {
    let size = |text: &str| text.parse::<Size>();
    match (text, text.strip_prefix('+'), text.strip_prefix('-')) {
        ("max", ..) => Ok(Amount::Max),
        (_, Some(more), _) => size(more).map(Amount::More),
        (_, _, Some(less)) => size(less).map(Amount::Less),
        _ => size(text).map(Amount::To),
    }
}

impl ResizeVolume {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let resize = Resize::open(&pool, &self.name, self.size)?;
        if context.shows(|| Ok(resize.plan()))? {
            return Ok(());
        }
        resize.carry_out(context.observer())?;
        let line = format!("{} has {} now", self.name, resize.size());
        let value = json!({"name": self.name, "size": resize.size()});
        context.output.result(&[line], "volumes", &[value])
    }
}
