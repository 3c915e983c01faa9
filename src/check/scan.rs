//! What lies in a pool's directories, whatever the index says.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::check::{Finding, Kind};
use crate::name::{Name, SnapshotName};
use crate::pool::init::{DIRECTORIES, FILES};
use crate::pool::{Place, Pool};
use crate::record::Record;
use crate::sys::beneath;
use crate::sys::loopdev::FileId;

/// An image as it lies there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which file it is.
    pub id: FileId,
    /// Its size in bytes.
    pub size: u64,
    /// Its record, or why there is none.
    pub record: Result<Record, String>,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Scanned {
    /// The images by place.
    pub images: BTreeMap<Place, Found>,
    /// What is no image of ours.
    pub foreign: Vec<Finding>,
    /// Directories in the trash with nothing in them: a lovol was killed before it filled them.
    pub empty: Vec<PathBuf>,
    /// Where something lies that cannot be used as the image that it should be.
    pub unusable: BTreeSet<Place>,
}

/// Lists the pool's directories and reads each image's record.
pub fn scan(pool: &Pool) -> io::Result<Scanned> {
    let mut scanned = Scanned::default();
    scanned.add_strays(pool)?;
    for file in beneath::names(pool.dir(), "volumes")? {
        let place = image_name(&file).map(Place::Volume);
        scanned.add(pool, &Path::new("volumes").join(&file), place);
    }
    for volume in beneath::names(pool.dir(), "snapshots")? {
        let path = Path::new("snapshots").join(&volume);
        match volume.parse::<Name>() {
            Ok(name) => scanned.add_snapshots(pool, &path, |snapshot| {
                Place::Snapshot(SnapshotName {
                    volume: name.clone(),
                    snapshot,
                })
            })?,
            Err(_) => scanned.add_foreign(pool, &path, "its name is no volume's"),
        }
    }
    for id in beneath::names(pool.dir(), "trash")? {
        scanned.add_trashed(pool, &id)?;
    }
    Ok(scanned)
}

fn image_name(file: &str) -> Option<Name> {
    file.strip_suffix(".img")?.parse().ok()
}

impl Scanned {
    fn add_strays(&mut self, pool: &Pool) -> io::Result<()> {
        for name in beneath::names(pool.dir(), ".")? {
            let is_own = DIRECTORIES.contains(&name.as_str()) || FILES.contains(&name.as_str());
            // A filesystem's root may have this one.
            if !is_own && name != "lost+found" {
                self.add_foreign(pool, Path::new(&name), "it is no part of a pool");
            }
        }
        Ok(())
    }

    fn add_snapshots(
        &mut self,
        pool: &Pool,
        dir: &Path,
        place: impl Fn(Name) -> Place,
    ) -> io::Result<()> {
        let files = match beneath::names(pool.dir(), dir) {
            Ok(files) => files,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                self.add_foreign(pool, dir, "it is not a directory");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for file in files {
            self.add(pool, &dir.join(&file), image_name(&file).map(&place));
        }
        Ok(())
    }

    fn add_trashed(&mut self, pool: &Pool, id: &str) -> io::Result<()> {
        let dir = Path::new("trash").join(id);
        // NAME@TIME is made like a snapshot's name.
        if id.parse::<SnapshotName>().is_err() {
            self.add_foreign(pool, &dir, "its name is no deleted volume's");
            return Ok(());
        }
        let names = beneath::names(pool.dir(), &dir)?;
        if names.is_empty() {
            self.empty.push(dir);
            return Ok(());
        }
        for name in names {
            let path = dir.join(&name);
            match name.as_str() {
                "volume.img" => self.add(pool, &path, Some(Place::TrashedVolume(id.to_owned()))),
                "snapshots" => {
                    self.add_snapshots(pool, &path, |name| {
                        Place::TrashedSnapshot(id.to_owned(), name)
                    })?;
                }
                _ => self.add_foreign(pool, &path, "it belongs to no deleted volume"),
            }
        }
        Ok(())
    }

    fn add(&mut self, pool: &Pool, path: &Path, place: Option<Place>) {
        let Some(place) = place else {
            return self.add_foreign(pool, path, "its name is no image's");
        };
        match look(pool, &place) {
            Ok(found) => drop(self.images.insert(place, found)),
            Err(error) => {
                self.add_foreign(pool, path, &error.to_string());
                self.unusable.insert(place);
            }
        }
    }

    fn add_foreign(&mut self, pool: &Pool, path: &Path, problem: &str) {
        self.foreign.push(Finding {
            kind: Kind::Foreign,
            what: pool.path().join(path).display().to_string(),
            problem: problem.to_owned(),
            hint: Some("lovol did not make it: move it out of the pool".into()),
        });
    }
}

fn look(pool: &Pool, place: &Place) -> io::Result<Found> {
    let file = beneath::open_ours(pool.dir(), place.path(), pool.device(), OFlags::RDONLY)?;
    let metadata = file.metadata()?;
    let record = match Record::read(&file) {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err("it has no record (xattr user.lovol)".to_owned()),
        Err(error) => Err(format!("its record is garbled ({error})")),
    };
    Ok(Found {
        id: FileId::from(&metadata),
        size: metadata.len(),
        record,
    })
}
