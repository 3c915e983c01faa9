//! Unmounting a volume for a while, and mounting it again where it was and as it was.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::mounting::{Image, Options};
use crate::plan::{Observer, Step};
use crate::pool::{Place, Pool};
use crate::sys::mount;
use crate::sys::mountinfo::MountEntry;

/// Where a volume was mounted, first mount first.
#[derive(Debug)]
pub struct Again {
    place: Place,
    mounts: Vec<MountEntry>,
}

impl Again {
    /// Unmounts a volume everywhere, or changes nothing.
    ///
    /// # Errors
    /// When one of its mounts is busy, or cannot be made again.
    pub fn unmount(pool: &Pool, place: &Place, observer: &dyn Observer) -> Result<Self> {
        let image = Image::open(pool, place)?;
        let own = image.own_mounts();
        let mut mounts: Vec<MountEntry> = own.into_iter().cloned().collect();
        mounts.sort_by_key(|entry| {
            let table = image.usage.mounts.iter();
            table.take_while(|other| other.id != entry.id).count()
        });
        if let Some(bind) = mounts.iter().find(|entry| is_part(entry)) {
            return Err(Error::InUse {
                what: place.to_string(),
                by: vec![format!("a part of it is mounted on {}", bind.dir.display())],
                hint: Some("unmount that first".into()),
            });
        }
        let again = Self {
            place: place.clone(),
            mounts,
        };
        let dirs: Vec<PathBuf> = again
            .mounts
            .iter()
            .rev()
            .map(|entry| entry.dir.clone())
            .collect();
        let unmounted = image.unmount(&dirs, observer);
        drop(image);
        match unmounted {
            Ok(()) => Ok(again),
            Err(Error::Partly { done, why }) => match again.mount(pool, observer) {
                Ok(()) => Err(*why),
                Err(error) => Err(Error::Partly {
                    done: format!("{done}, and not mounted again: {error}"),
                    why,
                }),
            },
            Err(error) => Err(error),
        }
    }

    /// What [`Again::unmount`] and [`Again::mount`] do.
    pub fn plan(pool: &Pool, place: &Place) -> Result<(Vec<Step>, Vec<Step>)> {
        let image = Image::open(pool, place)?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for dir in image.mount_dirs() {
            before.push(Step::Unmount { dir: dir.clone() });
            after.insert(
                0,
                Step::Mount {
                    image: place.path(),
                    dir,
                    fs: image.record.fs.to_string(),
                    read_only: false,
                },
            );
        }
        Ok((before, after))
    }

    /// Mounts it where it was and is not now, as it was.
    pub fn mount(&self, pool: &Pool, observer: &dyn Observer) -> Result<()> {
        for entry in &self.mounts {
            let image = Image::open(pool, &self.place)?;
            if image.is_mounted_at(&entry.dir) {
                continue;
            }
            // The mount may be read-only where the filesystem is not.
            let all = with(&[&entry.super_options, &entry.options]);
            if image.mount(&entry.dir, &all, observer).is_ok() {
                continue;
            }
            // What a filesystem tells of its options it may not take, or not of other content.
            image.mount(&entry.dir, &with(&[&entry.options]), observer)?;
            observer.warn(&format!(
                "{} has other options than before: {}",
                entry.dir.display(),
                entry.super_options
            ));
        }
        Ok(())
    }
}

/// A bind mount of some directory in it.  A btrfs is mounted by one of its subvolumes, too.
fn is_part(entry: &MountEntry) -> bool {
    entry.fstype != "btrfs" && entry.root.as_os_str() != "/"
}

fn with(lists: &[&str]) -> Options {
    let mut options = Options::default();
    let words = lists.iter().flat_map(|list| mount::split_words(list));
    for word in words.filter(|word| *word != "seclabel") {
        options.guest.add(word);
    }
    options
}
