//! `lovol create`

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::commands::{Context, require_root};
use crate::complete::size;
use crate::error::{Context as _, Error, Result};
use crate::guest::Fs;
use crate::index::Volume;
use crate::name::Name;
use crate::plan::Observer;
use crate::pool::Pool;
use crate::record::Record;
use crate::report::Reporter;
use crate::size::Size;
use crate::volume::{Adoption, New, name_must_be_free};

/// Make a volume: a sparse image of SIZE with a filesystem in it
///
/// SIZE is what the volume may grow to; it takes room in the pool only as it is filled. Sizes are
/// rounded up to 1 MiB. 50G is 50 GiB, 50GB is 50 * 10^9 bytes, and a number alone is bytes.
///
/// With --from, an image that exists already becomes the volume: by reflink, with --move itself, or
/// with --copy a copy of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol create home 50G                       50 GiB with XFS
  lovol create db 20G --fs ext4 --label db
  lovol create vm 10G --fs none               an empty image
  lovol create old --from /srv/old.img        take in an image
  lovol create vm2 --from /mnt/vm.img --copy  from another filesystem")]
pub struct Create {
    /// The volume's name
    #[arg(value_name = "NAME")]
    name: Name,

    /// Its size
    #[arg(
        value_name = "SIZE",
        add = size(),
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    size: Option<Size>,

    /// The filesystem to make in it
    #[arg(
        long,
        value_name = "FS",
        value_parser = PossibleValuesParser::new(["xfs", "ext4", "btrfs", "none"]).map(Fs::from),
        default_value = "xfs",
        conflicts_with = "from"
    )]
    fs: Fs,

    /// The filesystem's label
    #[arg(long, value_name = "LABEL", conflicts_with = "from")]
    label: Option<String>,

    /// More options for mkfs, separated by blanks
    #[arg(
        long,
        value_name = "OPTIONS",
        allow_hyphen_values = true,
        conflicts_with = "from"
    )]
    mkfs_options: Option<String>,

    /// Take this image in
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Move the image into the pool
    #[arg(long = "move", requires = "from")]
    is_move: bool,

    /// Copy the image, which must not be in use: for one on another filesystem than the pool
    #[arg(long, requires = "from", conflicts_with = "is_move")]
    copy: bool,

    /// Take an image in use without freezing it, as after a pulled plug
    #[arg(long, requires = "from", conflicts_with_all = ["is_move", "copy"])]
    crash: bool,
}

impl Create {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        match (&self.from, self.size) {
            (Some(file), _) => self.adopt(file, context),
            (None, Some(size)) => self.make(size, context),
            // clap asks for one of them.
            (None, None) => Err(Error::usage("SIZE is missing", "lovol create NAME SIZE")),
        }
    }

    fn make(&self, size: Size, context: &Context<'_>) -> Result<()> {
        let rounded = size.rounded_up();
        let options = self.mkfs_options.as_deref().unwrap_or_default();
        let new = New {
            name: self.name.clone(),
            size: rounded,
            fs: self.fs.clone(),
            label: self.label.clone(),
            mkfs_options: options.split_whitespace().map(str::to_owned).collect(),
        };
        new.check()?;
        let pool = context.pool_or_new()?;
        name_must_be_free(&pool, &self.name)?;
        if rounded != size {
            context
                .output
                .remark(&format!("{} bytes are rounded up to {rounded}", size.0));
        }
        if context.shows(|| Ok(new.plan()))? {
            return Ok(());
        }
        let record = new.make(&pool, context.observer())?;
        self.show(&pool, record, context)
    }

    fn adopt(&self, file: &std::path::Path, context: &Context<'_>) -> Result<()> {
        file.metadata().doing("find", file)?;
        let pool = context.pool_or_new()?;
        let adoption = Adoption::open(&pool, &self.name, file, self.is_move)?;
        let plan = || match (self.is_move, self.copy) {
            (true, _) => Ok(vec![adoption.move_step()]),
            (_, true) => Ok(vec![adoption.copy_step()]),
            _ => adoption.plan(self.crash),
        };
        if context.shows(plan)? {
            return Ok(());
        }
        let observer: &dyn Observer = context.observer();
        let record = if self.is_move {
            adoption.move_in(&pool, observer)?
        } else if self.copy {
            adoption.copy_in(&pool, observer)?
        } else {
            adoption.clone_in(&pool, self.crash, observer)?
        };
        if record.fs == Fs::None {
            observer.warn("no filesystem was recognised in it");
        }
        self.show(&pool, record, context)
    }

    fn show(&self, pool: &Pool, record: Record, context: &Context<'_>) -> Result<()> {
        let report = Reporter::new(pool).volume(&self.name, &Volume::new(record), false);
        context
            .output
            .result(&[self.name.to_string()], "volumes", &[report])
    }
}
