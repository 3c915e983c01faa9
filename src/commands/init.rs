//! `lovol init`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::commands::{Context, require_root};
use crate::complete::{directory, size};
use crate::error::{Context as _, Result};
use crate::plan::Step;
use crate::pool::abilities::Abilities;
use crate::pool::init;
use crate::pool::on_image::{self, OnImage};
use crate::size::Size;

/// Make a pool in DIR, a directory on a filesystem with reflinks
///
/// What the filesystem can do is tried, not guessed from its name, and shown. Where it has no
/// reflinks, --loop puts the pool on an XFS image of its own, DIR.img, mounted at DIR.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol init                            a pool at /var/lib/lovol
  lovol init /srv/pool                  a pool somewhere else
  lovol init --loop 100G                where there are no reflinks
  lovol init --loop +50G                make that pool larger")]
pub struct Init {
    /// The pool's directory; otherwise what --pool says
    #[arg(value_name = "DIR", add = directory())]
    dir: Option<PathBuf>,

    /// Put the pool on an XFS image of this size, or grow that image by +SIZE
    #[arg(long = "loop", value_name = "[+]SIZE", value_parser = parse_amount, add = size())]
    on_image: Option<Amount>,

    /// Do not allocate the image's space now
    #[arg(long, requires = "on_image")]
    sparse: bool,
}

#[derive(Clone, Copy, Debug)]
enum Amount {
    New(Size),
    More(Size),
}

fn parse_amount(text: &str) -> Result<Amount, String> {
    match text.strip_prefix('+') {
        Some(more) => more
            .parse()
            .map(|size: Size| Amount::More(size.rounded_up())),
        None => text
            .parse()
            .map(|size: Size| Amount::New(size.rounded_up())),
    }
}

impl Init {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        require_root()?;
        let dir = absolute(self.dir.as_deref().unwrap_or(&context.globals.pool))?;
        match self.on_image {
            None => Self::plain(&dir, context),
            Some(Amount::New(size)) => Self::on_image(
                &OnImage {
                    dir,
                    size,
                    sparse: self.sparse,
                },
                context,
            ),
            Some(Amount::More(by)) => Self::grow(&dir, by, context),
        }
    }

    fn plain(dir: &Path, context: &Context<'_>) -> Result<()> {
        let plan = || {
            if dir.exists() {
                init::must_be_empty(dir)?;
            }
            Ok(vec![Step::MakePool {
                dir: dir.to_owned(),
            }])
        };
        if context.shows(plan)? {
            return Ok(());
        }
        let abilities = init::make(dir, context.observer())?;
        show(dir, &abilities, None, context)
    }

    fn on_image(pool: &OnImage, context: &Context<'_>) -> Result<()> {
        let plan = || {
            pool.check()?;
            Ok(pool.plan())
        };
        if context.shows(plan)? {
            return Ok(());
        }
        let abilities = pool.make(context.observer())?;
        show(
            &pool.dir,
            &abilities,
            Some(&on_image::fstab_line(&pool.dir, pool.sparse)),
            context,
        )
    }

    fn grow(dir: &Path, by: Size, context: &Context<'_>) -> Result<()> {
        let plan = || {
            let (image, size) = on_image::grown_size(dir, by)?;
            Ok(vec![Step::GrowPoolImage { image, size }])
        };
        if context.shows(plan)? {
            return Ok(());
        }
        let size = on_image::grow(dir, by, context.observer())?;
        let lines = [format!("{} has {size} now", dir.display())];
        context.output.result(
            &lines,
            "pools",
            &[json!({"dir": dir.to_string_lossy(), "size": size.0})],
        )
    }
}

fn show(
    dir: &Path,
    abilities: &Abilities,
    fstab: Option<&str>,
    context: &Context<'_>,
) -> Result<()> {
    let yes = |can: bool| if can { "yes" } else { "no" };
    let mut lines = vec![
        format!("pool:        {}", dir.display()),
        format!("filesystem:  {}", abilities.fstype),
        format!("reflinks:    {}", yes(abilities.reflink)),
        format!("direct I/O:  {}", yes(abilities.direct_io)),
        format!("punch hole:  {}", yes(abilities.punch_hole)),
        format!("xattrs:      {}", yes(abilities.xattr)),
    ];
    if let Some(line) = fstab {
        lines.push(format!("fstab line:  {line}"));
    }
    let value = json!({"dir": dir.to_string_lossy(), "filesystem": abilities, "fstab": fstab});
    context.output.result(&lines, "pools", &[value])
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(dir).doing("find", dir)?;
    // Through symlinks where it exists, as the pool itself does.
    Ok(dir.canonicalize().unwrap_or(dir))
}
