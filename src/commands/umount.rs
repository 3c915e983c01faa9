//! `lovol umount`

use std::path::PathBuf;

use clap::Args;

use crate::commands::{Context, for_each, require_root, target_parser};
use crate::complete::{Which, images};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::mounting::Image;
use crate::plan::Step;
use crate::pool::{Place, Pool};
use crate::target::{self, Target};

/// Unmount volumes and views of snapshots
///
/// By its name, everywhere that it is mounted; by a directory, there. Its loop device goes away
/// with its last mount, unless it was made by 'lovol attach'. One that cannot be unmounted stops
/// it: those before it are unmounted, those after it are not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol umount home
  lovol umount home /mnt/old")]
pub struct Umount {
    /// Volumes, snapshots, or directories that they are mounted on
    #[arg(
        value_name = "TARGET",
        required = true,
        value_parser = target_parser(),
        add = images(Which::Mounted)
    )]
    targets: Vec<Target>,
}

impl Umount {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let pool = context.pool_for_change()?;
        let index = pool.index()?;
        let find = |target| Mounted::find(target, &pool, &index);
        let mounted: Vec<Mounted> = self.targets.iter().map(find).collect::<Result<_>>()?;
        let plan = || {
            let dirs = mounted.iter().flat_map(|mounted| mounted.dirs.iter());
            Ok(dirs.map(|dir| Step::Unmount { dir: dir.clone() }).collect())
        };
        if context.shows(plan)? {
            return Ok(());
        }
        let name = |mounted: &Mounted| mounted.place.target();
        for_each(&mounted, "unmounted", name, |mounted| {
            Image::open(&pool, &mounted.place)?.unmount(&mounted.dirs, context.observer())
        })?;
        Ok(())
    }
}

/// An image, and where it is to be unmounted.
struct Mounted {
    place: Place,
    dirs: Vec<PathBuf>,
}

impl Mounted {
    /// The image is let go again: two of the targets may be the same one's.
    fn find(target: &Target, pool: &Pool, index: &Index) -> Result<Self> {
        let place = target::find_image(target, pool, index)?;
        let all = Image::open(pool, &place)?.mount_dirs();
        let dirs = match target {
            Target::Path(path) => match path.canonicalize() {
                Ok(path) if all.contains(&path) || path.is_dir() => vec![path],
                _ => all,
            },
            _ => all,
        };
        if dirs.is_empty() {
            return Err(Error::refused(
                format!("cannot unmount {place}"),
                "it is not mounted",
            ));
        }
        Ok(Self { place, dirs })
    }
}
