//! One thing that provisioning does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::clone::{self, ToVolume};
use crate::error::{Context, Result};
use crate::guest::Fs;
use crate::mounting::{Image, Options, mount_point};
use crate::name::Name;
use crate::plan::{Observer, Step};
use crate::pool::{Place, Pool};
use crate::properties;
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
    /// The steps that a plan shows.
    pub fn steps(&self) -> Vec<Step> {
        match self {
            Self::Create(new) => new.plan(),
            Self::Clone { from, to, .. } => {
                let to = Place::volume(to).path();
                vec![
                    Step::CloneAtOnce {
                        from: from.path(),
                        to: to.clone(),
                    },
                    Step::NewUuid { image: to },
                ]
            }
            Self::Set { volume, properties } => {
                let step = |(key, value): (&String, &String)| Step::SetProperty {
                    volume: volume.clone(),
                    key: key.clone(),
                    value: value.clone(),
                };
                properties.iter().map(step).collect()
            }
            Self::Mount {
                place,
                fs,
                dir,
                options,
                ..
            } => vec![Step::Mount {
                image: place.path(),
                dir: dir.clone(),
                fs: fs.to_string(),
                read_only: place.is_snapshot() || options.guest.is_read_only(),
            }],
        }
    }

    /// Does it, and returns in words what was done.
    pub fn carry_out(&self, pool: &Pool, observer: &dyn Observer) -> Result<String> {
        match self {
            Self::Create(new) => {
                new.make(pool, observer)?;
                Ok(format!("created {}", new.name))
            }
            Self::Clone { from, to, options } => {
                ToVolume::open(pool, from.clone(), to.clone(), *options)?.make(observer)?;
                Ok(format!("cloned {} to {to}", from.target()))
            }
            Self::Set { volume, properties } => {
                self.steps().iter().for_each(|step| observer.begin(step));
                properties::set(pool, volume, properties)?;
                let shown = properties
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"));
                Ok(format!(
                    "set {} of {volume}",
                    shown.collect::<Vec<_>>().join(", ")
                ))
            }
            Self::Mount {
                place,
                dir,
                options,
                makes_dir,
                ..
            } => {
                if *makes_dir {
                    std::fs::create_dir_all(dir).doing("make", dir)?;
                }
                let dir = mount_point(dir)?;
                Image::open(pool, place)?.mount(&dir, options, observer)?;
                Ok(format!("mounted {} on {}", place.target(), dir.display()))
            }
        }
    }
}
