//! `lovol fstab`

use std::path::PathBuf;

use clap::Args;

use crate::commands::{Context, target_parser};
use crate::complete::{Which, directory, images};
use crate::error::{Error, Result};
use crate::fstab::{escape, escape_path};
use crate::guest::Fs;
use crate::pool::{Place, Pool};
use crate::properties::{KEEP, TRIM, USER};
use crate::provision::FSTYPE;
use crate::record::Record;
use crate::size::Size;
use crate::target::{self, Target};

/// Print a line for /etc/fstab that mounts a volume on DIR at boot
///
/// The line also describes the volume, so that 'lovol provision' makes it again where it is
/// missing, as on a new machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lovol fstab home /home
  lovol fstab home /home >>/etc/fstab
  lovol fstab --plain home /home      works without lovol installed")]
pub struct Fstab {
    /// A volume, a snapshot, or a path that means one
    #[arg(value_name = "TARGET", value_parser = target_parser(), add = images(Which::Any))]
    target: Target,

    /// The directory to mount on
    #[arg(value_name = "DIR", add = directory())]
    dir: PathBuf,

    /// Print a line that mount(8) follows by itself, without lovol, and without direct I/O
    #[arg(long)]
    plain: bool,
}

impl Fstab {
    pub(super) fn run(&self, context: &Context<'_>) -> Result<()> {
        if self.dir.to_str().is_none() {
            return Err(Error::usage(
                "the directory's name is not UTF-8",
                "systemd takes no such line",
            ));
        }
        if !self.dir.is_absolute() {
            return Err(Error::usage(
                format!("{} is not an absolute path", self.dir.display()),
                "fstab needs one",
            ));
        }
        let pool = context.pool()?;
        let index = pool.index()?;
        let place = target::find_image(&self.target, &pool, &index)?;
        let line = self.line(&pool, &place, place.record_in(&index)?)?;
        if context.output.is_json() {
            return context.output.json("lines", &[line]);
        }
        context.output.lines(&[line])
    }

    fn line(&self, pool: &Pool, place: &Place, record: &Record) -> Result<String> {
        let (fstype, options) = match (self.plain, place.is_snapshot()) {
            (false, false) => (FSTYPE, described(place, record)?),
            (false, true) => (FSTYPE, format!("ro,nofail,{REQUIRES}")),
            (true, false) => (mountable(place, &record.fs)?, "loop,nofail".to_owned()),
            (true, true) => {
                return Err(Error::refused(
                    format!("there is no plain line for {place}"),
                    "only lovol knows how to show it without changing it",
                ));
            }
        };
        let image = pool.full_path(place);

        Ok(format!(
            "{} {} {fstype} {} 0 0",
            escape_path(&image),
            escape_path(&self.dir),
            escape(&options)
        ))
    }
}

/// Ordered after provisioning, so that a missing volume is made before it is mounted.
const REQUIRES: &str = "x-systemd.requires=lovol-provision.service";

fn described(place: &Place, record: &Record) -> Result<String> {
    let mut words = vec!["defaults,nofail".to_owned(), REQUIRES.to_owned()];
    mountable(place, &record.fs)?;
    // What lovol cannot make is not described, or another filesystem would be made in its place.
    if !matches!(record.fs, Fs::Other(_)) {
        words.push(format!("x-lovol.size={}", exact(record.size)));
        words.push(format!("x-lovol.fs={}", record.fs));
        let label = record.label.iter().filter(|label| !label.is_empty());
        words.extend(label.filter_map(|label| word("label", label)));
    }
    let properties = record.properties.iter();
    let own =
        properties.filter(|(key, _)| [KEEP, TRIM].contains(&key.as_str()) || key.starts_with(USER));
    words.extend(own.filter_map(|(key, value)| word(key, value)));
    Ok(words.join(","))
}

/// An option word; none for what cannot stand in one, such as a label that is not UTF-8.
fn word(key: &str, value: &str) -> Option<String> {
    let mark = if value.contains(',') { "\"" } else { "" };
    (!value.contains(['"', char::REPLACEMENT_CHARACTER]))
        .then(|| format!("x-lovol.{key}={mark}{value}{mark}"))
}

/// The size for people, if that is all of it; else in bytes.
fn exact(bytes: u64) -> String {
    let short = Size(bytes).to_string();
    match short.parse::<Size>() {
        Ok(size) if size.0 == bytes => short,
        _ => bytes.to_string(),
    }
}

fn mountable<'f>(place: &Place, fs: &'f Fs) -> Result<&'f str> {
    match fs {
        Fs::None => Err(Error::refused(
            format!("there is no line for {place}"),
            "there is no filesystem in it",
        )
        .with_hint("make one on the device that 'lovol attach' prints, and mount it once")),
        fs => Ok(fs.as_str()),
    }
}
