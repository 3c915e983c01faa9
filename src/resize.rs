//! Making volumes larger and smaller.
//!
//! ```text
//! grow    record: resizing=SIZE; image; loop device; filesystem; record: its size
//! shrink  record: resizing=SIZE; filesystem; image; loop device; record: its size
//! ```
//! So the filesystem never is larger than the device that it is on, wherever this ends; and whoever
//! runs it again with the same size finishes it, as each step does nothing where it is done.

use std::fs::File;
use std::path::Path;

use rustix::fs::OFlags;

use crate::claims::Claimed;
use crate::error::{Context, Error, Result};
use crate::guest::{Fs, Shrinks, ext4};
use crate::image::attach_for_us;
use crate::mounting::Image;
use crate::name::Name;
use crate::plan::{Observer, Step};
use crate::pool::change::change;
use crate::pool::{Place, Pool};
use crate::properties::RESIZING;
use crate::size::{MAX, MIB, Size};
use crate::space::{self, Claim, must_allow};
use crate::sys::ioctl;
use crate::sys::loopdev::{self, FileId};
use crate::sys::signals::Blocked;
use crate::usage::Usage;

/// How large a volume is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So large.
    To(Size),
    /// So large, or as large as its image is already: never smaller.
    AtLeast(Size),
    /// Larger by so much.
    More(Size),
    /// Smaller by so much.
    Less(Size),
    /// As large as the pool has room for at this moment.
    Max,
}

/// A volume that is to be resized, locked.
#[derive(Debug)]
pub struct Resize<'p> {
    pool: &'p Pool,
    place: Place,
    image: Image<'p>,
    fs: Fs,
    old: u64,
    new: u64,
    _claimed: Claimed,
}

/// How far it got before it failed.
enum Failed {
    /// Nothing but the image has changed.
    Early(Error),
    /// The filesystem may have.
    Late(Error),
}

impl<'p> Resize<'p> {
    /// Locks the volume, and refuses what cannot work.
    pub fn open(pool: &'p Pool, name: &Name, amount: Amount) -> Result<Self> {
        let place = Place::volume(name);
        let image = Image::open(pool, &place)?;
        let old = pool.look_at(&place)?.len();
        let record = image.record();
        // What +SIZE and -SIZE are from: typed again, they finish what was begun.
        let is_unfinished = record.properties.contains_key(RESIZING);
        let from = if is_unfinished && !matches!(amount, Amount::AtLeast(_)) {
            record.size
        } else {
            old
        };
        let resize = Self {
            pool,
            fs: record.fs.clone(),
            new: wanted(pool, &place, amount, from)?,
            place,
            image,
            old,
            _claimed: Claimed::default(),
        };
        resize.must_be_possible()?;
        let claimed = resize.claim()?;
        Ok(Self {
            _claimed: claimed,
            ..resize
        })
    }

    fn must_be_possible(&self) -> Result<()> {
        if self.new != self.old && self.image.mount_dirs().is_empty() {
            self.image.must_not_be_used_unseen()?;
        }
        let new = Size(self.new);
        let least = if self.new == self.old {
            self.fs.least_size()
        } else {
            self.fs.least_resized()
        };
        if new < least {
            return Err(Error::usage(
                format!("{new} is too small for {}", self.fs),
                format!("the least is {least}"),
            ));
        }
        if self.new > MAX {
            return Err(Error::usage(
                format!("{new} is larger than an image can be"),
                format!("the most is {}", Size(MAX)),
            ));
        }
        if self.new >= self.old {
            return Ok(());
        }
        let refuse = |why: String, hint: String| {
            let what = format!("cannot make {} smaller", self.place);
            Err(Error::refused(what, why).with_hint(hint))
        };
        let is_mounted = !self.image.mount_dirs().is_empty();
        match self.fs.shrinks() {
            Shrinks::Never if self.fs == Fs::None => refuse(
                "there is no filesystem in it that could be made smaller first".into(),
                "make a new volume, and delete this one".into(),
            ),
            Shrinks::Never => refuse(
                format!("{} cannot shrink", self.fs),
                "make a smaller volume and copy the files; 'lovol trim' gives unused space back to the pool".into(),
            ),
            Shrinks::Unmounted if is_mounted => refuse(
                format!("{} shrinks only while it is not mounted", self.fs),
                format!("'lovol umount {}' first", self.place.target()),
            ),
            Shrinks::Unmounted => self.must_be_unused().and_then(|()| self.must_be_closed()),
            Shrinks::Mounted => self.must_be_closed(),
        }
    }

    fn must_be_unused(&self) -> Result<()> {
        let id = self.pool.image_id(&self.place)?;
        Usage::look()?.must_not_use(&self.place.to_string(), id, None)
    }

    /// Room for what it is to have more.
    fn claim(&self) -> Result<Claimed> {
        if self.new <= self.old {
            return Ok(Claimed::default());
        }
        let what = format!("cannot make {} larger", self.place);
        must_allow(self.pool, &what, Claim::Volume(self.new - self.old))
    }

    /// Its new size.
    pub fn size(&self) -> Size {
        Size(self.new)
    }

    /// What [`Resize::carry_out`] does; nothing where all is as wanted.
    pub fn plan(&self) -> Vec<Step> {
        let image = self.image_step();
        let filesystem = self.filesystem_step();
        if self.new < self.old {
            vec![filesystem, image]
        } else if self.fs == Fs::None {
            vec![image]
        } else {
            vec![image, filesystem]
        }
    }

    fn image_step(&self) -> Step {
        Step::SizeImage {
            image: self.place.path(),
            size: self.size(),
        }
    }

    fn filesystem_step(&self) -> Step {
        Step::SizeFilesystem {
            image: self.place.path(),
            fs: self.fs.to_string(),
            size: self.size(),
        }
    }

    /// Resizes it.
    pub fn carry_out(&self, observer: &dyn Observer) -> Result<()> {
        let new = self.new;
        if new > self.old {
            space::warn_if_larger(self.pool, &self.place, new, observer)?;
        }
        let mut was_unfinished = false;
        change(self.pool, &self.place, |record| {
            let before = record.properties.insert(RESIZING.into(), new.to_string());
            was_unfinished = before.is_some();
            Ok(())
        })?;
        let resized = if new < self.old {
            self.shrink(observer)
        } else {
            self.grow(observer)
        };
        match resized {
            Ok(()) => self.note(new).map_err(|why| self.partly(why)),
            Err(Failed::Early(why)) => {
                let is_sized_back = self.size_image(self.old).is_ok();
                // What was not finished before is not finished now.
                let is_taken_back = is_sized_back && !was_unfinished && self.note(self.old).is_ok();
                Err(if is_taken_back { why } else { self.partly(why) })
            }
            Err(Failed::Late(why)) => Err(self.partly(why)),
        }
    }

    fn partly(&self, why: Error) -> Error {
        Error::Partly {
            done: format!(
                "{} is between {} and {}; the same command goes on with it",
                self.place,
                Size(self.old),
                self.size()
            ),
            why: Box::new(why),
        }
    }

    /// Notes the size that it has, and that nothing is under way.
    ///
    /// It is done: so the pool's lock is waited for longer than otherwise.
    fn note(&self, size: u64) -> Result<()> {
        let mut tries = 0;
        loop {
            let noted = change(self.pool, &self.place, |record| {
                record.properties.remove(RESIZING);
                record.size = size;
                Ok(())
            });
            match noted {
                Err(Error::Locked { .. }) if tries < 5 => tries += 1,
                noted => return noted.map(drop),
            }
        }
    }

    fn grow(&self, observer: &dyn Observer) -> Result<(), Failed> {
        observer.begin(&self.image_step());
        self.size_image(self.new).map_err(Failed::Early)?;
        if self.fs == Fs::None {
            return Ok(());
        }
        if let Fs::Other(fs) = &self.fs {
            observer.warn(&format!(
                "lovol cannot make {fs} larger: that is left to its own tool"
            ));
            return Ok(());
        }
        observer.begin(&self.filesystem_step());
        if self.fs == Fs::Ext4 && self.image.mount_dirs().is_empty() {
            return self.resize_unmounted();
        }
        let guest = self.image.open_guest(observer).map_err(Failed::Early)?;
        let device = guest.device.path();
        let before = self.fs.size(&guest.root, &device).map_err(Failed::Early)?;
        let grown = self.fs.grow(&guest.root, &device, self.new);
        let grown = grown.map_err(|why| match self.fs.size(&guest.root, &device) {
            Ok(now) if now == before => Failed::Early(why),
            // Some of its parts were added: the image must stay as large.
            _ => Failed::Late(why),
        });
        let closed = guest.close().map_err(Failed::Late);
        grown.and(closed)
    }

    fn shrink(&self, observer: &dyn Observer) -> Result<(), Failed> {
        observer.begin(&self.filesystem_step());
        self.shrink_filesystem(observer)?;
        // Somebody may have attached it, or begun to read it, while that took its time.
        self.must_be_closed().map_err(Failed::Late)?;
        observer.begin(&self.image_step());
        self.size_image(self.new).map_err(Failed::Late)
    }

    /// What is not on a device is open to nobody: its end is about to be cut off.
    fn must_be_closed(&self) -> Result<()> {
        if self.image.device()?.is_some() {
            return Ok(());
        }
        self.image.must_be_closed()
    }

    fn shrink_filesystem(&self, observer: &dyn Observer) -> Result<(), Failed> {
        if self.fs.shrinks() == Shrinks::Unmounted {
            return self.resize_unmounted();
        }
        let guest = self.image.open_guest(observer).map_err(Failed::Early)?;
        let shrunk = ioctl::btrfs_resize(&guest.root, self.new)
            .map_err(|error| Failed::Early(self.no_room(error)));
        let closed = guest.close().map_err(Failed::Late);
        shrunk.and(closed)
    }

    /// By the tool of ext4, on its device or one for this.
    fn resize_unmounted(&self) -> Result<(), Failed> {
        self.image
            .must_not_be_used_unseen()
            .map_err(Failed::Early)?;
        if let Some(device) = self.image.device().map_err(Failed::Early)? {
            return resize_ext4(&device.path(), self.new);
        }
        let file = self.open_file().map_err(Failed::Early)?;
        let sector = self.image.record().sector;
        let device = attach_for_us(&file, false, sector).map_err(Failed::Early)?;
        let resized = resize_ext4(&device.path(), self.new);
        let closed = device.close().map_err(Failed::Late);
        resized.and(closed)
    }

    fn no_room(&self, error: std::io::Error) -> Error {
        if error.raw_os_error() == Some(libc::ENOSPC) {
            return Error::refused(
                format!("cannot make {} smaller", self.place),
                format!("what is in it needs more than {}", self.size()),
            );
        }
        Error::io("shrink the filesystem of", self.place.target(), error)
    }

    fn open_file(&self) -> Result<File> {
        self.pool.open_image(&self.place, OFlags::RDWR)
    }

    /// Gives the image and what is bound to it this size.
    fn size_image(&self, size: u64) -> Result<()> {
        let shown = self.pool.full_path(&self.place);
        let file = self.open_file()?;
        let id = FileId::of(&file).doing("look at", &shown)?;
        if file.metadata().doing("look at", &shown)?.len() != size {
            file.set_len(size).doing("size", &shown)?;
            rustix::fs::fsync(&file).doing("write back", &shown)?;
        }
        for device in Usage::look()?.devices_of(id) {
            loopdev::refresh_size(device)?;
        }
        Ok(())
    }
}

fn resize_ext4(device: &Path, bytes: u64) -> Result<(), Failed> {
    let before = ext4::size(device).map_err(Failed::Early)?;
    // It moves blocks about, and is not to be stopped half way by ^C, which its group would get.
    let signals = Blocked::all()
        .doing("block", "signals")
        .map_err(Failed::Early)?;
    ext4::make_ready(device).map_err(Failed::Early)?;
    let resized = ext4::resize(device, bytes);
    drop(signals);
    resized.map_err(|why| match ext4::is_untouched(device, before) {
        Ok(true) => Failed::Early(why),
        // Blocks of files may lie beyond its old end already.
        _ => Failed::Late(why),
    })
}

/// The size in bytes, a whole number of MiB.
fn wanted(pool: &Pool, place: &Place, amount: Amount, old: u64) -> Result<u64> {
    let bytes = match amount {
        Amount::To(size) => size.0,
        Amount::AtLeast(size) => return Ok(size.rounded_up().0.max(old)),
        Amount::More(by) => old.saturating_add(by.0),
        Amount::Less(by) if by.0 >= old => {
            return Err(Error::usage(
                format!("{place} has {}, and nothing would be left", Size(old)),
                "lovol resize NAME -SIZE takes less than all of it",
            ));
        }
        Amount::Less(by) => old - by.0,
        Amount::Max => return room(pool, place, old).map(|room| room.max(old)),
    };
    Ok(bytes.next_multiple_of(MIB))
}

/// What the image takes and what the pool has left, as far as that may be promised.
fn room(pool: &Pool, place: &Place, old: u64) -> Result<u64> {
    let own = std::os::unix::fs::MetadataExt::blocks(&pool.look_at(place)?) * 512;
    let (_, free) = space::size_and_free(pool)?;
    let allowed = old.saturating_add(space::left_to_promise(pool)?);
    Ok((own + free).min(allowed) / MIB * MIB)
}
