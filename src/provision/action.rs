//! One thing that provisioning does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::clone::{self, ToVolume};
use crate::error::{Error, Result};
use crate::guest::Fs;
use crate::mounting::{Image, Options, mount_point};
use crate::name::Name;
use crate::plan::{Observer, Step};
use crate::pool::init::MadeDirs;
use crate::pool::{Place, Pool};
use crate::properties;
use crate::provision::plan::is_larger;
use crate::resize::{Amount, Resize};
use crate::rollback;
use crate::size::Size;
use crate::volume::New;

/// What is done, by the same functions as the verbs'.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are what the line above each says")]
pub enum Action {
    /// Make a volume.
    Create(New),
    /// Make a volume as a copy of another, or of a snapshot.
    Clone {
        from: Place,
        to: Name,
        options: clone::Options,
    },
    /// Make a volume larger.
    Resize { volume: Name, fs: Fs, size: Size },
    /// Set properties of a volume.
    Set {
        volume: Name,
        properties: BTreeMap<String, String>,
    },
    /// Mount a volume or view a snapshot.
    Mount {
        place: Place,
        fs: Fs,
        dir: PathBuf,
        options: Box<Options>,
        makes_dir: bool,
    },
}

impl Action {
    /// The steps that a plan shows: the verb's own, or the last ones where it is for a volume that
    /// a line before makes.
    pub fn steps(&self, pool: &Pool, observer: &dyn Observer) -> Result<Vec<Step>> {
        match self {
            Self::Create(new) => Ok(new.plan()),
            Self::Clone { from, to, options } => {
                let clone = ToVolume::open(pool, from.clone(), to.clone(), *options);
                let copy = Step::CloneAtOnce {
                    from: from.path(),
                    to: Place::volume(to).path(),
                };
                unless_new(clone.and_then(|clone| clone.plan()), copy)
            }
            Self::Resize { volume, fs, size } => {
                let growth = growth(pool, volume, *size, observer);
                let step = Step::SizeFilesystem {
                    image: Place::volume(volume).path(),
                    fs: fs.to_string(),
                    size: *size,
                };
                let steps = growth.map(|it| it.map_or_else(Vec::new, |resize| resize.plan()));
                unless_new(steps, step)
            }
            Self::Set { volume, properties } => Ok(set_steps(volume, properties)),
            Self::Mount {
                place,
                fs,
                dir,
                options,
                makes_dir,
            } => {
                let mut steps = Vec::new();
                if *makes_dir && !dir.exists() {
                    steps.push(Step::MakeDir { path: dir.clone() });
                }
                let image = Image::open(pool, place);
                let mount = Step::Mount {
                    image: place.path(),
                    dir: dir.clone(),
                    fs: fs.to_string(),
                    read_only: place.is_snapshot() || options.guest.is_read_only(),
                };
                steps.extend(unless_new(
                    image.and_then(|image| image.plan_mount(dir, options)),
                    mount,
                )?);
                Ok(steps)
            }
        }
    }

    /// Does it, and returns in words what was done, if anything was.
    pub fn carry_out(&self, pool: &Pool, observer: &dyn Observer) -> Result<Option<String>> {
        let done = match self {
            Self::Create(new) => {
                new.make(pool, observer)?;
                format!("created {}", new.name)
            }
            Self::Clone { from, to, options } => {
                ToVolume::open(pool, from.clone(), to.clone(), *options)?.make(observer)?;
                format!("cloned {} to {to}", from.target())
            }
            Self::Resize { volume, size, .. } => {
                let Some(growth) = growth(pool, volume, *size, observer)? else {
                    return Ok(None);
                };
                growth.carry_out(observer)?;
                format!("made {volume} {size} large")
            }
            Self::Set { volume, properties } => {
                for step in set_steps(volume, properties) {
                    observer.begin(&step);
                }
                let values = properties
                    .iter()
                    .map(|(key, value)| (key.clone(), Some(value.clone())));
                properties::set(pool, &Place::volume(volume), &values.collect())?;
                let shown = properties
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"));
                format!("set {} of {volume}", shown.collect::<Vec<_>>().join(", "))
            }
            Self::Mount {
                place,
                dir,
                options,
                makes_dir,
                ..
            } => {
                let made = makes_dir.then(|| MadeDirs::make(dir)).transpose()?;
                let dir = mount_point(dir)?;
                rollback::if_due(pool, place, observer)?;
                Image::open(pool, place)?.mount(&dir, options, observer)?;
                if let Some(made) = made {
                    made.keep();
                }
                format!("mounted {} on {}", place.target(), dir.display())
            }
        };
        Ok(Some(done))
    }
}

/// The volume, locked, to be made larger; none where its image is larger already, which the index
/// does not say: a resize was not finished, or came since the plan was made.
fn growth<'p>(
    pool: &'p Pool,
    volume: &Name,
    size: Size,
    observer: &dyn Observer,
) -> Result<Option<Resize<'p>>> {
    let resize = Resize::open(pool, volume, Amount::AtLeast(size))?;
    let has = resize.size();
    if has > size {
        observer.warn(&is_larger(volume, has, size));
        return Ok(None);
    }
    Ok(Some(resize))
}

fn set_steps(volume: &Name, properties: &BTreeMap<String, String>) -> Vec<Step> {
    let step = |(key, value): (&String, &String)| Step::Set {
        of: volume.to_string(),
        key: key.clone(),
        value: Some(value.clone()),
    };
    properties.iter().map(step).collect()
}

/// The steps, or this one where what they are for is not there yet.
fn unless_new(steps: Result<Vec<Step>>, step: Step) -> Result<Vec<Step>> {
    match steps {
        Err(Error::NotFound { .. }) => Ok(vec![step]),
        steps => steps,
    }
}
