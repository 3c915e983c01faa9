//! The first field of a line of `/etc/fstab`, as far as it means an image of a pool.
//!
//! An image's path in its pool, or `lovol:NAME`, `lovol:NAME@SNAP` in the default one.  The bare
//! name is none: libmount makes a path of any word that names something in the working directory
//! (`mnt_context_prepare_srcpath`), which for `home` is `/home` where systemd mounts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, printable};
use crate::name::Name;
use crate::pool::Place;

/// What names an image by its URL-like form.
pub const SCHEME: &str = "lovol:";

/// An image of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The pool's directory, where the path says it.
    pub pool: Option<PathBuf>,
    /// The image in it.
    pub place: Place,
}

impl Spec {
    /// Parses what was typed or stands in fstab.
    ///
    /// # Errors
    /// [`Error::Usage`] where it is no such thing.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let parsed = match text.as_bytes().strip_prefix(SCHEME.as_bytes()) {
            Some(name) => Self::parse_name(&String::from_utf8_lossy(name)),
            None => Self::parse_path(Path::new(text))
                .ok_or_else(|| "it is no image's path in a pool".to_owned()),
        };
        parsed.map_err(|why| {
            Error::usage(
                format!("{}: {why}", printable(&text.to_string_lossy())),
                "write POOL/volumes/NAME.img, lovol:NAME, or lovol:NAME@SNAPSHOT",
            )
        })
    }

    fn parse_name(name: &str) -> Result<Self, String> {
        let place = if name.contains('@') {
            Place::Snapshot(name.parse()?)
        } else {
            Place::Volume(name.parse()?)
        };
        Ok(Self { pool: None, place })
    }

    /// By its form alone: whether there is such a pool is for who opens it to find out.
    fn parse_path(path: &Path) -> Option<Self> {
        let name: Name = path
            .file_name()?
            .to_str()?
            .strip_suffix(".img")?
            .parse()
            .ok()?;
        let dir = path.parent()?;
        let (pool, place) = if dir.file_name()? == "volumes" {
            (dir.parent()?, Place::volume(&name))
        } else {
            let volume: Name = dir.file_name()?.to_str()?.parse().ok()?;
            let snapshots = dir.parent()?;
            if snapshots.file_name()? != "snapshots" {
                return None;
            }
            (snapshots.parent()?, Place::snapshot(&volume, &name))
        };
        let is_absolute = path.is_absolute();
        is_absolute.then(|| Self {
            pool: Some(pool.to_owned()),
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_told_apart() {
        let parse = |text: &str| Spec::parse(OsStr::new(text)).ok();
        let home = Place::Volume("home".parse().expect("a name"));
        let snapshot = Place::Snapshot("home@a.img".parse().expect("a name"));
        let spec = |pool: Option<&str>, place: &Place| {
            Some(Spec {
                pool: pool.map(PathBuf::from),
                place: place.clone(),
            })
        };
        assert_eq!(parse("/p/volumes/home.img"), spec(Some("/p"), &home));
        assert_eq!(parse("/volumes/home.img"), spec(Some("/"), &home));
        assert_eq!(
            parse("/p/snapshots/home/a.img.img"),
            spec(Some("/p"), &snapshot)
        );
        assert_eq!(parse("lovol:home"), spec(None, &home));
        assert_eq!(parse("lovol:home@a.img"), spec(None, &snapshot));
        for text in [
            "home",
            "/home",
            "volumes/home.img",
            "/p/home.img",
            "lovol:",
            "lovol:a@b@c",
            "/p/volumes/.img",
            "/p/snapshots/a.img",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
