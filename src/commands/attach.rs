//! `lovol attach`

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, images};
use crate::error::Result;
use crate::mounting::Image;
use crate::target::{self, Target};

/// Bind a volume or snapshot to a loop device, and print the device
///
/// The device bypasses the page cache of the pool's filesystem (direct I/O) and stays until it is
/// detached. A snapshot's device is read-only. A volume has one device at most: attaching it again
/// prints the same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol attach vm                   prints /dev/loop0
  lovol attach home@before          read-only")]
pub struct Attach {
    /// A volume, a snapshot, or a path that means one
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Detached))]
    target: Target,
}

impl Attach {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let place = target::find_image(&self.target, &pool, &pool.index()?)?;
        let image = Image::open(&pool, &place)?;
        if context.shows(|| image.plan_attach())? {
            return Ok(());
        }
        let device = image.attach(context.observer())?;
        let value = json!({"target": place.to_string(), "device": device, "read_only": place.is_snapshot()});
        context
            .output
            .result(&[device.display().to_string()], "devices", &[value])
    }
}
