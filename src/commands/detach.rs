//! `lovol detach`

use clap::Args;

use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, images};
use crate::error::Result;
use crate::mounting::Image;
use crate::target::{self, Target};

/// Free the loop device of a volume or snapshot, and wait until it is free
///
/// A mounted volume is not detached: unmount it, and its device goes away by itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol detach vm
  lovol detach /dev/loop0")]
pub struct Detach {
    /// A volume, a snapshot, or its device
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Attached))]
    target: Target,
}

impl Detach {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let place = target::find_image(&self.target, &pool, &pool.index()?)?;
        let image = Image::open(&pool, &place)?;
        if context.shows(|| image.plan_detach())? {
            return Ok(());
        }
        image.detach(context.observer())
    }
}
