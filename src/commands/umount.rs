//! `lovol umount`

use std::path::PathBuf;

use clap::Args;

use crate::commands::{Context, require_root, target_parser};
use crate::complete::{Which, images};
use crate::error::{Error, Result};
use crate::mounting::Image;
use crate::plan::Step;
use crate::target::{self, Target};

/// Unmount a volume or the view of a snapshot
///
/// By its name, everywhere that it is mounted; by a directory, there. Its loop device goes away
/// with its last mount, unless it was made by 'lovol attach'.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol umount home
  lovol umount /mnt/old")]
pub struct Umount {
    /// A volume, a snapshot, or the directory that one is mounted on
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Mounted))]
    target: Target,
}

impl Umount {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let place = target::find_image(&self.target, &pool, &pool.index()?)?;
        let image = Image::open(&pool, &place)?;
        let dirs = self.dirs(&image);
        if dirs.is_empty() {
            return Err(Error::refused(
                format!("cannot unmount {place}"),
                "it is not mounted",
            ));
        }
        let plan = || {
            Ok(dirs
                .iter()
                .map(|dir| Step::Unmount { dir: dir.clone() })
                .collect())
        };
        if context.shows(plan)? {
            return Ok(());
        }
        image.unmount(&dirs, context.observer())
    }

    fn dirs(&self, image: &Image<'_>) -> Vec<PathBuf> {
        let dirs = image.mount_dirs();
        let Target::Path(path) = &self.target else {
            return dirs;
        };
        match path.canonicalize() {
            Ok(path) if path.is_dir() => vec![path],
            _ => dirs,
        }
    }
}
