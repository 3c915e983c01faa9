//! What is to be done, so that all is as the file says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::clone;
use crate::error::{Error, Result};
use crate::guest::Fs;
use crate::index::{Index, Volume};
use crate::mounting::Mounted;
use crate::name::Name;
use crate::pool::{Place, Pool};
use crate::provision::action::Action;
use crate::provision::wish::{Described, Wish, pool_dir};
use crate::record::Record;
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
    /// What cannot be had, each with its line.
    pub failures: Vec<Error>,
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
/// What one line cannot have, as its pool is not there or its volume is in the trash, is no reason to
/// leave the others out, at boot above all: it is among [`Plan::failures`].
///
/// # Errors
/// [`Error::At`] with the first line that means nothing.
pub fn plan(
    file: &str,
    wishes: &[Wish],
    pool: &Path,
    wait: Duration,
    mounts: bool,
) -> Result<Plan> {
    let mut planning = Planning {
        file,
        wait,
        plan: Plan::default(),
        known: Vec::new(),
    };
    let mut pools = BTreeMap::new();
    for wish in wishes {
        if let Some(warning) = &wish.warning {
            planning.plan.warnings.push((wish.line, warning.clone()));
        }
        let opened = planning.pool(pool_dir(wish, pool));
        if let Some(number) = planning.unless_wrong(wish, opened)? {
            pools.insert(wish.line, number);
        }
    }
    // A volume may have several lines, and one of them, wherever it stands, says what it is.
    let (describing, others): (Vec<&Wish>, Vec<&Wish>) =
        wishes.iter().partition(|wish| wish.volume.is_any);
    for wish in describing.into_iter().chain(others) {
        let Some(number) = pools.get(&wish.line) else {
            continue;
        };
        let added = planning.add(wish, *number);
        if planning.unless_wrong(wish, added)?.is_none() {
            pools.remove(&wish.line);
        }
    }
    for wish in wishes.iter().filter(|_| mounts) {
        if let Some(number) = pools.get(&wish.line) {
            let added = planning.add_mount(wish, *number);
            planning.unless_wrong(wish, added)?;
        }
    }
    Ok(planning.plan)
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
    /// Volumes that lines before describe.
    lines: BTreeMap<Name, usize>,
    /// Volumes that lines before make: what will be in them, and their sizes.
    new: BTreeMap<Name, (Fs, Size)>,
}

impl Known {
    fn new(index: Index) -> Self {
        Self {
            index,
            lines: BTreeMap::new(),
            new: BTreeMap::new(),
        }
    }

    /// What is in an image, and its size.
    fn look(&self, place: &Place) -> Result<(Fs, Size)> {
        match place {
            Place::Volume(name) if self.new.contains_key(name) => Ok(self.new[name].clone()),
            place => place
                .record_in(&self.index)
                .map(|record| (record.fs.clone(), Size(record.size))),
        }
    }
}

struct Planning<'f> {
    file: &'f str,
    wait: Duration,
    plan: Plan,
    /// For each of the plan's pools.
    known: Vec<Known>,
}

impl Planning<'_> {
    /// Passes on what the line itself has wrong; notes what it cannot have.
    fn unless_wrong<T>(&mut self, wish: &Wish, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(why @ Error::Usage { .. }) => Err(why.at(self.file, wish.line)),
            Err(why) => {
                self.plan.failures.push(why.at(self.file, wish.line));
                Ok(None)
            }
        }
    }

    /// The number of a pool, opened once.
    fn pool(&mut self, dir: &Path) -> Result<usize> {
        let pool = Pool::open(dir, self.wait)?;
        let mut opened = self.plan.pools.iter();
        if let Some(number) = opened.position(|known| known.id() == pool.id()) {
            return Ok(number);
        }
        self.known.push(Known::new(pool.index()?));
        self.plan.pools.push(pool);
        Ok(self.known.len() - 1)
    }

    fn push(&mut self, wish: &Wish, pool: usize, action: Action) {
        self.plan.tasks.push(Task {
            line: wish.line,
            pool,
            action,
        });
    }

    fn add(&mut self, wish: &Wish, pool: usize) -> Result<()> {
        let Place::Volume(name) = &wish.spec.place else {
            return Ok(());
        };
        if wish.volume.is_any {
            if let Some(line) = self.known[pool].lines.insert(name.clone(), wish.line) {
                return Err(Error::usage(
                    format!(
                        "{name} is described twice: line {line} has x-lovol. words for it as well"
                    ),
                    "put all of them into one line",
                ));
            }
        }
        let mut properties = wish.volume.properties.clone();
        let mut growth = None;
        let index = &self.known[pool].index;
        if let Some(Volume { record, .. }) = index.volumes.get(name) {
            let warnings = compare(&wish.volume, name, record);
            if let Some(size) = wish
                .volume
                .larger_than(Size(record.size))
                .filter(|_| wish.volume.grow)
            {
                growth = Some(size);
            }
            properties.retain(|key, value| record.properties.get(key) != Some(value));
            let warnings = warnings.into_iter().map(|warning| (wish.line, warning));
            self.plan.warnings.extend(warnings);
        } else if !self.known[pool].new.contains_key(name) {
            let (action, fs, size) = self.make(wish, name, pool)?;
            growth = wish.volume.larger_than(size);
            self.push(wish, pool, action);
            self.known[pool].new.insert(name.clone(), (fs, size));
        }
        if let Some(size) = growth {
            let (volume, fs) = (name.clone(), self.known[pool].look(&wish.spec.place)?.0);
            self.push(wish, pool, Action::Resize { volume, fs, size });
        }
        if !properties.is_empty() {
            let volume = name.clone();
            self.push(wish, pool, Action::Set { volume, properties });
        }
        Ok(())
    }

    /// How a missing volume is made, and what it will be.
    fn make(&mut self, wish: &Wish, name: &Name, pool: usize) -> Result<(Action, Fs, Size)> {
        let known = &self.known[pool];
        must_not_be_in_trash(&known.index, name)?;
        name_must_be_free(&self.plan.pools[pool], name)?;
        let Described { size, fs, from, .. } = &wish.volume;
        if let Some(from) = from {
            let (has, size) = known.look(from)?;
            if let Some(fs) = fs.as_ref().filter(|fs| **fs != has) {
                return Err(Error::refused(
                    format!("cannot make {name} with {fs}"),
                    format!("{from} has {has}"),
                ));
            }
            if let Some(wanted) = wish.volume.smaller_than(size) {
                let warning = format!("{name} gets {size}, as {from} has: more than {wanted}");
                self.plan.warnings.push((wish.line, warning));
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
            return Ok((action, has, size));
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
            label: wish.volume.label.clone(),
            mkfs_options: wish.volume.mkfs_options.clone(),
        };
        new.check()?;
        let (fs, size) = (new.fs.clone(), new.size);
        Ok((Action::Create(new), fs, size))
    }

    fn add_mount(&mut self, wish: &Wish, pool: usize) -> Result<()> {
        let Some(dir) = wish.dir.clone().filter(|_| wish.is_auto) else {
            return Ok(());
        };
        let place = wish.options.place(wish.spec.place.clone())?;
        let known = &self.known[pool];
        let is_there = place.record_in(&known.index).is_ok();
        if is_there && is_mounted(&self.plan.pools[pool], &place, &dir)? {
            return Ok(());
        }
        if !wish.makes_dir && !dir.is_dir() && !self.will_be_seen(&dir) {
            return Err(Error::NotFound {
                kind: "directory",
                name: dir.display().to_string(),
                hint: Some("make it, or add X-mount.mkdir".into()),
            });
        }
        let action = Action::Mount {
            fs: known.look(&place)?.0,
            place,
            dir,
            options: Box::new(wish.options.clone()),
            makes_dir: wish.makes_dir,
        };
        self.push(wish, pool, action);
        Ok(())
    }

    /// Whether a directory lies where a line before mounts something: then it may be there.
    fn will_be_seen(&self, dir: &Path) -> bool {
        let mut tasks = self.plan.tasks.iter();
        tasks.any(
            |task| matches!(&task.action, Action::Mount { dir: at, .. } if dir.starts_with(at)),
        )
    }
}

/// What differs between a volume that is there and its line, and stays as it is.
fn compare(wanted: &Described, name: &Name, record: &Record) -> Vec<String> {
    let mut warnings = Vec::new();
    // What was made without a filesystem may have got one by hand.
    let is_other = |fs: &&Fs| **fs != record.fs && **fs != Fs::None;
    if let Some(fs) = wanted.fs.as_ref().filter(is_other) {
        warnings.push(format!(
            "{name} has {}, not {fs}, and stays as it is",
            record.fs
        ));
    }
    let has = Size(record.size);
    if let Some(size) = wanted.smaller_than(has) {
        warnings.push(is_larger(name, has, size));
    }
    if let Some(size) = wanted.larger_than(has).filter(|_| !wanted.grow) {
        warnings.push(format!(
            "{name} has {has}, less than {size}, and grows only with x-lovol.grow, or by 'lovol resize {name} {size}'"
        ));
    }
    warnings
}

/// That a volume has more than is wanted, which is no reason to take from it.
pub(super) fn is_larger(name: &Name, has: Size, wanted: Size) -> String {
    format!("{name} has {has}, more than {wanted}, and is not made smaller")
}

fn is_mounted(pool: &Pool, place: &Place, dir: &Path) -> Result<bool> {
    match dir.canonicalize() {
        Ok(dir) => Mounted::find(pool, place, &dir).map(|mounted| mounted.is_some()),
        Err(_) => Ok(false),
    }
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
