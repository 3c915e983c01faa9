//! What is to be done, so that all is as the file says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clone;
use crate::error::{Error, Result};
use crate::guest::Fs;
use crate::index::{Index, Volume};
use crate::mounting::Image;
use crate::name::Name;
use crate::pool::{Place, Pool};
use crate::properties;
use crate::provision::action::Action;
use crate::provision::wish::{Described, Wish, pool_dir};
use crate::size::Size;
use crate::volume::{New, name_must_be_free};

/// All that is to be done, and what is to be said before.
#[derive(Debug, Default)]
pub struct Plan {
    /// The pools that the lines name.
    pub pools: Vec<Pool>,
    /// In the order of the file.
    pub tasks: Vec<Task>,
    /// With the number of the line.
    pub warnings: Vec<(usize, String)>,
}

/// One thing to do.
#[derive(Debug)]
pub struct Task {
    /// The line that wants it.
    pub line: usize,
    /// Which of the plan's pools it is for.
    pub pool: usize,
    /// What.
    pub action: Action,
}

/// Looks at every line and finds what is to be done; changes nothing.
///
/// # Errors
/// [`Error::At`] with the first line that cannot be followed.
pub fn plan(
    file: &str,
    wishes: &[Wish],
    pool: &Path,
    wait: Duration,
    mounts: bool,
) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut known = Vec::new();
    for wish in wishes {
        let at = |why: Error| why.at(file, wish.line);
        if let Some(warning) = &wish.warning {
            plan.warnings.push((wish.line, warning.clone()));
        }
        let number = plan.pool(pool_dir(wish, pool), wait).map_err(at)?;
        if known.len() <= number {
            known.push(Known::new(plan.pools[number].index().map_err(at)?));
        }
        plan.add(wish, number, &mut known[number]).map_err(at)?;
        if mounts {
            plan.add_mount(wish, number, &known[number]).map_err(at)?;
        }
    }
    Ok(plan)
}

/// Finishes what a killed lovol has left unfinished in the pools of these lines, so that nothing is
/// planned on what is about to move.  A pool that cannot be opened is for [`plan`] to tell.
pub fn settle(wishes: &[Wish], pool: &Path, wait: Duration) -> Result<()> {
    let pools = wishes.iter().map(|wish| pool_dir(wish, pool));
    let pools = pools.filter_map(|dir| Pool::open(dir, wait).ok());
    pools.into_iter().try_for_each(|pool| pool.settle())
}

/// What is in a pool, or will be when the lines before are done.
struct Known {
    index: Index,
    /// Volumes that lines before make, or describe.
    lines: BTreeMap<Name, usize>,
    new: BTreeMap<Name, Fs>,
}

impl Known {
    fn new(index: Index) -> Self {
        Self {
            index,
            lines: BTreeMap::new(),
            new: BTreeMap::new(),
        }
    }

    fn fs_of(&self, place: &Place) -> Result<Fs> {
        match place {
            Place::Volume(name) if self.new.contains_key(name) => Ok(self.new[name].clone()),
            place => place.record_in(&self.index).map(|record| record.fs.clone()),
        }
    }
}

impl Plan {
    /// The number of a pool, opened once.
    fn pool(&mut self, dir: &Path, wait: Duration) -> Result<usize> {
        let pool = Pool::open(dir, wait)?;
        let same = self
            .pools
            .iter()
            .position(|known| known.uuid() == pool.uuid());
        Ok(same.unwrap_or_else(|| {
            self.pools.push(pool);
            self.pools.len() - 1
        }))
    }

    fn push(&mut self, wish: &Wish, pool: usize, action: Action) {
        self.tasks.push(Task {
            line: wish.line,
            pool,
            action,
        });
    }

    fn add(&mut self, wish: &Wish, pool: usize, known: &mut Known) -> Result<()> {
        let Place::Volume(name) = &wish.spec.place else {
            return Ok(());
        };
        if wish.volume.is_any {
            if let Some(line) = known.lines.insert(name.clone(), wish.line) {
                return Err(Error::refused(
                    format!("{name} is described twice"),
                    format!("line {line} has x-lovol. words for it as well"),
                ));
            }
        }
        let mut properties = wish.volume.properties.clone();
        match known.index.volumes.get(name) {
            Some(volume) => {
                self.compare(wish, name, volume, &mut properties);
                properties.retain(|key, value| volume.record.properties.get(key) != Some(value));
            }
            None if known.new.contains_key(name) => {}
            None => {
                let (action, fs) = self.make(wish, name, pool, known)?;
                if let (Action::Clone { from, .. }, Some(size)) = (&action, wish.volume.size) {
                    let has = from.record_in(&known.index).ok().map(|record| record.size);
                    if has.is_some_and(|has| has < size.rounded_up().0) {
                        properties
                            .insert(properties::GROW_TO.into(), size.rounded_up().0.to_string());
                    }
                }
                self.push(wish, pool, action);
                known.new.insert(name.clone(), fs);
            }
        }
        if !properties.is_empty() {
            let volume = name.clone();
            self.push(wish, pool, Action::Set { volume, properties });
        }
        Ok(())
    }

    /// What differs between a volume that is there and the line, and is not simply set.
    fn compare(
        &mut self,
        wish: &Wish,
        name: &Name,
        volume: &Volume,
        properties: &mut BTreeMap<String, String>,
    ) {
        let Described { size, fs, grow, .. } = &wish.volume;
        let mut warn = |text: String| self.warnings.push((wish.line, text));
        let record = &volume.record;
        if let Some(fs) = fs.as_ref().filter(|fs| **fs != record.fs) {
            warn(format!(
                "{name} has {}, not {fs}, and stays as it is",
                record.fs
            ));
        }
        let Some(size) = size.map(Size::rounded_up) else {
            return;
        };
        if size.0 < record.size {
            warn(format!(
                "{name} has {}, more than {size}, and is not made smaller",
                Size(record.size)
            ));
        } else if size.0 > record.size && *grow {
            properties.insert(properties::GROW_TO.into(), size.0.to_string());
        }
    }

    /// How a missing volume is made, and what will be in it.
    fn make(&self, wish: &Wish, name: &Name, pool: usize, known: &Known) -> Result<(Action, Fs)> {
        let pool = &self.pools[pool];
        must_not_be_in_trash(&known.index, name)?;
        name_must_be_free(pool, name)?;
        let Described {
            size,
            fs,
            label,
            mkfs_options,
            from,
            ..
        } = &wish.volume;
        if let Some(from) = from {
            let has = known.fs_of(from)?;
            if let Some(fs) = fs.as_ref().filter(|fs| **fs != has) {
                return Err(Error::refused(
                    format!("cannot make {name} with {fs}"),
                    format!("{from} has {has}"),
                ));
            }
            let action = Action::Clone {
                from: from.clone(),
                to: name.clone(),
                options: clone::Options {
                    new_uuid: true,
                    force: false,
                    crash: false,
                },
            };
            return Ok((action, has));
        }
        let Some(size) = size else {
            return Err(Error::NotFound {
                kind: "volume named",
                name: name.to_string(),
                hint: Some("x-lovol.size=50G makes it".into()),
            });
        };
        let new = New {
            name: name.clone(),
            size: size.rounded_up(),
            fs: fs.clone().unwrap_or(Fs::Xfs),
            label: label.clone(),
            mkfs_options: mkfs_options.clone(),
        };
        new.check()?;
        let fs = new.fs.clone();
        Ok((Action::Create(new), fs))
    }

    fn add_mount(&mut self, wish: &Wish, pool: usize, known: &Known) -> Result<()> {
        let Some(dir) = wish.dir.clone().filter(|_| wish.is_auto) else {
            return Ok(());
        };
        let place = wish.options.place(wish.spec.place.clone())?;
        let is_there = place.record_in(&known.index).is_ok();
        if is_there && is_mounted(&self.pools[pool], &place, &dir)? {
            return Ok(());
        }
        if !wish.makes_dir && !dir.is_dir() {
            return Err(Error::NotFound {
                kind: "directory",
                name: dir.display().to_string(),
                hint: Some("make it, or add X-mount.mkdir".into()),
            });
        }
        let action = Action::Mount {
            fs: known.fs_of(&place)?,
            place,
            dir,
            options: Box::new(wish.options.clone()),
            makes_dir: wish.makes_dir,
        };
        self.push(wish, pool, action);
        Ok(())
    }
}

fn is_mounted(pool: &Pool, place: &Place, dir: &Path) -> Result<bool> {
    let dir: PathBuf = match dir.canonicalize() {
        Ok(dir) => dir,
        Err(_) => return Ok(false),
    };
    Image::open(pool, place).map(|image| image.is_mounted_at(&dir))
}

/// Who deleted it may want it back: a new one would be in its way.
fn must_not_be_in_trash(index: &Index, name: &Name) -> Result<()> {
    if index.trash.values().all(|trashed| trashed.name != *name) {
        return Ok(());
    }
    Err(Error::refused(
        format!("{name} is not made"),
        "it was deleted, and is in the trash",
    )
    .with_hint(format!(
        "'lovol undelete {name}' brings it back, 'lovol purge {name}' makes room for a new one"
    )))
}
