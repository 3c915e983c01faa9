//! `lovol mount`

use std::path::PathBuf;

use clap::Args;

use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, directory, images, mount_options};
use crate::error::{Error, Result, printable, show_path};
use crate::mounting::{Image, Options, mount_point};
use crate::pool::Place;
use crate::rollback;
use crate::sys::mountinfo;
use crate::target::{self, Target};

/// Mount a volume on DIR, or view a snapshot there
///
/// A plain umount(8) of DIR leaves nothing behind. A snapshot is mounted read-only and shows
/// exactly what was there; its bytes never change, and the volume may be mounted meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol mount home /home
  lovol mount home /home -o noatime,nodev
  lovol mount home@before /mnt/old")]
pub struct Mount {
    /// A volume, a snapshot, or a path that means one
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Unmounted))]
    target: Target,

    /// The directory to mount on
    #[arg(value_name = "DIR", add = directory())]
    dir: PathBuf,

    /// Mount options, separated by commas, as for mount(8) and mount.lovol(8)
    #[arg(short, long, value_name = "OPTIONS", allow_hyphen_values = true, add = mount_options())]
    options: Vec<String>,
}

impl Mount {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let place = target::find_image(&self.target, &pool, &pool.index()?)?;
        let dir = mount_point(&self.dir)?;
        let options = Options::parse_typed(&self.options.join(","))?;
        if options.remount {
            return Err(Error::usage(
                "remount is mount(8)'s",
                format!("mount -o {} {}", self.options.join(","), show_path(&dir)),
            ));
        }
        let place = options.place(place)?;
        self.must_be_possible(&place)?;
        if !context.globals.dry_run {
            rollback::if_due(&pool, &place, context.observer())?;
        }
        let image = Image::open(&pool, &place)?;
        if context.shows(|| image.plan_mount(&dir, &options))? {
            return Ok(());
        }
        if let Some(hidden) = mountinfo::at(&mountinfo::read()?, &dir) {
            context.observer().warn(&format!(
                "{} is mounted on {} already, and is hidden until this is unmounted",
                printable(&hidden.source.to_string_lossy()),
                show_path(&dir)
            ));
        }
        image.mount(&dir, &options, context.observer())
    }

    /// mount(8) says "rw" of everything; who types it means it.
    fn must_be_possible(&self, place: &Place) -> Result<()> {
        let mut words = self.options.iter().flat_map(|words| words.split(','));
        let writing = words.rfind(|word| ["ro", "rw"].contains(word));
        if place.is_snapshot() && writing == Some("rw") {
            return Err(Error::usage(
                format!("{place} is never written to"),
                format!("lovol clone {} NAME makes a volume of it", place.target()),
            ));
        }
        Ok(())
    }
}
