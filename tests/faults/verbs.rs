//! The verbs that change something.  A new one registers itself here, and in the list in `mod.rs`.
//!
//! In all words, `{}` is the number of the round, and `$SIZE`, `$FS` and `$TEMP` are the guest's
//! and the test's.  They work in the yard, a directory beside the pool on the same filesystem.

/// A verb that changes something.
#[derive(Clone, Debug)]
pub(super) struct Verb {
    /// What is done before it, and never fails.
    pub(super) prepare: &'static [&'static str],
    /// What else makes the state that it is for.
    pub(super) spoil: Spoil,
    pub(super) words: &'static str,
    /// By what it is known to be done.
    pub(super) done: Done,
    /// What is in the filesystem that it makes.
    pub(super) opens: Opens,
    /// Of these files, exactly one is there whatever happens.
    pub(super) states: &'static [&'static str],
    /// Of these files, all are there or none.
    pub(super) together: &'static [&'static str],
    /// A part of the path of what may be attached or mounted after it.
    pub(super) uses: &'static str,
    /// No check of the pool looks at what it makes: whoever comes upon what is left of it types
    /// the same again, and then it is there.
    pub(super) is_repeatable: bool,
}

impl Verb {
    /// Whether it says with this code that it has failed and changed nothing; `mount.lovol` has the codes
    /// of mount(8).
    pub(super) fn fails_with(&self, code: i32) -> bool {
        if self.words.starts_with("mount.lovol ") {
            [1, 2, 32].contains(&code)
        } else {
            [1, 3].contains(&code)
        }
    }
}

/// How a verb is known to be done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done {
    /// This file is there; the path begins at the pool, and any part may end with `*`.
    Made(&'static str),
    /// This file is not there.
    Gone(&'static str),
    /// This file is another than before.
    Replaced(&'static str),
    /// This file has another size than before.
    Resized(&'static str),
    /// `spare` is mounted, or it is not.
    Mounted(bool),
    /// `spare` is mounted read-only.
    ReadOnly,
    /// `spare` has a device, or it has none.
    Attached(bool),
    /// What this command prints has this text.
    Says(&'static str, &'static str),
    /// What this command prints has no such text.
    SaysNot(&'static str, &'static str),
    /// A check finds nothing, and the guests are written to.
    Sound,
}

/// What can be opened when a verb is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opens {
    Nothing,
    /// An empty filesystem.
    New(&'static str),
    /// Copies of `home`, or of what was copied from it.
    Copies(&'static [&'static str]),
    /// A pool.
    Pool(&'static str),
}

/// A state that no verb makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoil {
    No,
    /// The index is an older one, as if a lovol had been killed between image and index.
    IndexIsOld,
    /// The file `./fstab{}` has this line.
    Fstab(&'static str),
    /// `home` is frozen by a lovol that is dead, and whose guardian is.
    HomeIsFrozen,
}

const PLAIN: Verb = Verb {
    prepare: &[],
    spoil: Spoil::No,
    words: "",
    done: Done::Sound,
    opens: Opens::Nothing,
    states: &[],
    together: &[],
    uses: "",
    is_repeatable: false,
};

const VOLUME: &[&str] = &["create a{} 1M --fs none", "snapshot a{}@s"];
const TRASHED: &[&str] = &["create a{} 1M --fs none", "snapshot a{}@s", "delete -r a{}"];

pub(super) fn create() -> Verb {
    Verb {
        words: "create v{} $SIZE --fs $FS",
        done: Done::Made("volumes/v{}.img"),
        opens: Opens::New("v{}"),
        ..PLAIN
    }
}

pub(super) fn create_from_an_image() -> Verb {
    Verb {
        words: "create f{} --from ./image",
        done: Done::Made("volumes/f{}.img"),
        opens: Opens::Copies(&["f{}"]),
        ..PLAIN
    }
}

pub(super) fn create_by_copying_an_image() -> Verb {
    Verb {
        words: "create f{} --from ./image --copy",
        ..create_from_an_image()
    }
}

pub(super) fn create_by_moving_an_image() -> Verb {
    Verb {
        prepare: &["clone ./image ./m{}"],
        words: "create m{} --from ./m{} --move",
        done: Done::Made("volumes/m{}.img"),
        opens: Opens::Copies(&["m{}"]),
        states: &["volumes/m{}.img", "../yard/m{}"],
        ..PLAIN
    }
}

pub(super) fn snapshot() -> Verb {
    Verb {
        words: "snapshot home@s{}",
        done: Done::Made("snapshots/home/s{}.img"),
        opens: Opens::Copies(&["home@s{}"]),
        ..PLAIN
    }
}

pub(super) fn crash_snapshot() -> Verb {
    Verb {
        words: "snapshot --crash home@s{}",
        ..snapshot()
    }
}

/// Of three guests, each of another filesystem.
pub(super) fn group_snapshot() -> Verb {
    Verb {
        words: "snapshot home@s{} ext4@s{} btrfs@s{}",
        opens: Opens::Copies(&["home@s{}", "ext4@s{}", "btrfs@s{}"]),
        together: &[
            "snapshots/home/s{}.img",
            "snapshots/ext4/s{}.img",
            "snapshots/btrfs/s{}.img",
        ],
        ..snapshot()
    }
}

pub(super) fn clone_of_snapshot() -> Verb {
    Verb {
        words: "clone home@keep c{}",
        done: Done::Made("volumes/c{}.img"),
        opens: Opens::Copies(&["c{}"]),
        ..PLAIN
    }
}

pub(super) fn clone_of_mounted_volume() -> Verb {
    Verb {
        words: "clone home c{}",
        ..clone_of_snapshot()
    }
}

pub(super) fn clone_in_place_of_another() -> Verb {
    Verb {
        prepare: VOLUME,
        words: "clone --force home@keep a{}",
        // Not what lies in the trash: there it waits until it is exchanged.
        done: Done::Replaced("volumes/a{}.img"),
        opens: Opens::Copies(&["a{}"]),
        states: &["volumes/a{}.img"],
        ..PLAIN
    }
}

pub(super) fn clone_from_path_to_path() -> Verb {
    Verb {
        words: "clone ../pool/volumes/home.img ./c{}",
        done: Done::Made("../yard/c{}"),
        opens: Opens::Copies(&["./c{}"]),
        is_repeatable: true,
        ..PLAIN
    }
}

pub(super) fn clone_in_place_of_a_path() -> Verb {
    Verb {
        prepare: &["clone ./image ./c{}"],
        words: "clone --force ../pool/volumes/home.img ./c{}",
        done: Done::Replaced("../yard/c{}"),
        states: &["../yard/c{}"],
        ..clone_from_path_to_path()
    }
}

pub(super) fn rename() -> Verb {
    Verb {
        prepare: VOLUME,
        words: "rename a{} b{}",
        done: Done::Made("volumes/b{}.img"),
        states: &["volumes/a{}.img", "volumes/b{}.img"],
        ..PLAIN
    }
}

pub(super) fn rename_of_snapshot() -> Verb {
    Verb {
        prepare: &["snapshot --crash home@a{}"],
        words: "rename home@a{} b{}",
        done: Done::Made("snapshots/home/b{}.img"),
        opens: Opens::Copies(&["home@b{}"]),
        states: &["snapshots/home/a{}.img", "snapshots/home/b{}.img"],
        ..PLAIN
    }
}

pub(super) fn delete() -> Verb {
    Verb {
        prepare: VOLUME,
        words: "delete -r a{}",
        done: Done::Made("trash/a{}@*/volume.img"),
        states: &["volumes/a{}.img", "trash/a{}@*/volume.img"],
        ..PLAIN
    }
}

pub(super) fn delete_now() -> Verb {
    Verb {
        prepare: VOLUME,
        words: "delete -r -y --now a{}",
        done: Done::Gone("volumes/a{}.img"),
        ..PLAIN
    }
}

pub(super) fn delete_of_snapshots() -> Verb {
    Verb {
        prepare: &["snapshot --crash home@a{}", "snapshot --crash home@b{}"],
        words: "delete home@a{}%b{}",
        done: Done::Gone("snapshots/home/a{}.img"),
        ..PLAIN
    }
}

pub(super) fn undelete() -> Verb {
    Verb {
        prepare: TRASHED,
        words: "undelete a{}",
        done: Done::Made("volumes/a{}.img"),
        states: &["volumes/a{}.img", "trash/a{}@*/volume.img"],
        ..PLAIN
    }
}

pub(super) fn purge() -> Verb {
    Verb {
        prepare: TRASHED,
        words: "purge -y a{}",
        done: Done::Gone("trash/a{}@*"),
        ..PLAIN
    }
}

pub(super) fn mount() -> Verb {
    Verb {
        words: "mount spare $TEMP/spare",
        done: Done::Mounted(true),
        uses: "/spare",
        ..PLAIN
    }
}

pub(super) fn mount_by_helper() -> Verb {
    Verb {
        words: "mount.lovol lovol:spare $TEMP/spare -o rw,noatime",
        ..mount()
    }
}

pub(super) fn remount_by_helper() -> Verb {
    Verb {
        prepare: &["mount spare $TEMP/spare"],
        words: "mount.lovol lovol:spare $TEMP/spare -o remount,ro",
        done: Done::ReadOnly,
        uses: "/spare",
        ..PLAIN
    }
}

pub(super) fn umount() -> Verb {
    Verb {
        prepare: &["mount spare $TEMP/spare"],
        words: "umount spare",
        done: Done::Mounted(false),
        uses: "/spare",
        ..PLAIN
    }
}

pub(super) fn attach() -> Verb {
    Verb {
        words: "attach spare",
        done: Done::Attached(true),
        uses: "/spare",
        ..PLAIN
    }
}

pub(super) fn detach() -> Verb {
    Verb {
        prepare: &["attach spare"],
        words: "detach spare",
        done: Done::Attached(false),
        uses: "/spare",
        ..PLAIN
    }
}

pub(super) fn init() -> Verb {
    Verb {
        words: "init ./p{}",
        done: Done::Made("../yard/p{}"),
        opens: Opens::Pool("./p{}"),
        is_repeatable: true,
        ..PLAIN
    }
}

pub(super) fn init_on_an_image() -> Verb {
    Verb {
        words: "init --loop 512M --sparse ./p{}",
        uses: "/yard/",
        ..init()
    }
}

pub(super) fn growth_of_a_pool() -> Verb {
    Verb {
        prepare: &["init --loop 512M --sparse ./p{}"],
        words: "init --loop +256M --sparse ./p{}",
        done: Done::Resized("../yard/p{}.img"),
        ..init_on_an_image()
    }
}

pub(super) fn resize() -> Verb {
    Verb {
        prepare: &["create v{} $SIZE --fs $FS"],
        words: "resize v{} 512M",
        done: Done::Resized("volumes/v{}.img"),
        opens: Opens::New("v{}"),
        ..PLAIN
    }
}

pub(super) fn resize_of_mounted_volume() -> Verb {
    Verb {
        words: "resize home +256M",
        done: Done::Resized("volumes/home.img"),
        ..PLAIN
    }
}

pub(super) fn resize_to_less() -> Verb {
    Verb {
        prepare: &["create v{} 64M --fs $FS"],
        words: "resize v{} 32M",
        ..resize()
    }
}

pub(super) fn resize_of_mounted_volume_to_less() -> Verb {
    Verb {
        prepare: &["resize home 768M"],
        words: "resize home 512M",
        ..resize_of_mounted_volume()
    }
}

pub(super) fn rollback() -> Verb {
    Verb {
        prepare: &["create v{} $SIZE --fs $FS", "snapshot v{}@s"],
        words: "rollback v{}@s",
        done: Done::Replaced("volumes/v{}.img"),
        opens: Opens::New("v{}"),
        states: &["volumes/v{}.img"],
        ..PLAIN
    }
}

pub(super) fn rollback_of_mounted_volume() -> Verb {
    Verb {
        prepare: &[
            "create v{} $SIZE --fs $FS",
            "snapshot v{}@s",
            "mount v{} $TEMP/view",
        ],
        words: "rollback --remount v{}@s",
        // It is mounted already.
        opens: Opens::Nothing,
        uses: "/v",
        ..rollback()
    }
}

pub(super) fn rollback_at_the_next_mount() -> Verb {
    Verb {
        prepare: &["create v{} $SIZE --fs $FS", "snapshot v{}@s"],
        words: "rollback --next-mount v{}@s",
        done: Done::Says("show -J v{}", "rollback-to"),
        ..PLAIN
    }
}

pub(super) fn mount_that_rolls_back() -> Verb {
    Verb {
        prepare: &[
            "create v{} $SIZE --fs $FS",
            "snapshot v{}@s",
            "rollback --next-mount v{}@s",
        ],
        words: "mount v{} $TEMP/view",
        states: &["volumes/v{}.img"],
        uses: "/v",
        ..PLAIN
    }
}

pub(super) fn undo_of_a_rollback() -> Verb {
    Verb {
        prepare: &[
            "create v{} $SIZE --fs $FS",
            "snapshot v{}@s",
            "rollback v{}@s",
        ],
        words: "rollback --undo v{}",
        ..rollback()
    }
}

pub(super) fn prune() -> Verb {
    Verb {
        prepare: &[
            "create v{} 1M --fs none",
            "snapshot v{}@20260101T120000Z",
            "snapshot v{}@20260102T120000Z",
        ],
        words: "prune v{} --keep-last 1",
        done: Done::Gone("snapshots/v{}/20260101T120000Z.img"),
        ..PLAIN
    }
}

pub(super) fn trim() -> Verb {
    Verb {
        words: "trim home",
        ..PLAIN
    }
}

pub(super) fn set() -> Verb {
    Verb {
        words: "set home user:round=r{}",
        done: Done::Says("show -J home", "\"r{}\""),
        ..PLAIN
    }
}

pub(super) fn set_of_the_pool() -> Verb {
    Verb {
        words: "set command=/bin/r{}",
        done: Done::Says("get command", "/bin/r{}"),
        ..PLAIN
    }
}

pub(super) fn hold() -> Verb {
    Verb {
        words: "hold home@keep --tag t{}",
        done: Done::Says("show -J home@keep", "\"t{}\""),
        ..PLAIN
    }
}

pub(super) fn release() -> Verb {
    Verb {
        prepare: &["hold home@keep --tag t{}"],
        words: "release home@keep --tag t{}",
        done: Done::SaysNot("show -J home@keep", "\"t{}\""),
        ..PLAIN
    }
}

pub(super) fn protect() -> Verb {
    Verb {
        prepare: &["protect --off home"],
        words: "protect home",
        done: Done::Says("get home", "protect"),
        ..PLAIN
    }
}

/// Trims all, and prunes.
pub(super) fn watch() -> Verb {
    Verb {
        prepare: &["set low=100%"],
        words: "watch --once",
        ..PLAIN
    }
}

pub(super) fn restore() -> Verb {
    Verb {
        words: "restore home@keep:letter ./r{}",
        done: Done::Made("../yard/r{}"),
        is_repeatable: true,
        ..PLAIN
    }
}

pub(super) fn provision_of_a_volume() -> Verb {
    Verb {
        spoil: Spoil::Fstab("lovol:v{} /nowhere lovol x-lovol.size=$SIZE,x-lovol.fs=$FS"),
        words: "provision ./fstab{}",
        ..create()
    }
}

pub(super) fn provision_of_a_property() -> Verb {
    Verb {
        spoil: Spoil::Fstab("lovol:home /nowhere lovol x-lovol.user:round=p{}"),
        words: "provision ./fstab{}",
        done: Done::Says("show -J home", "\"p{}\""),
        ..PLAIN
    }
}

pub(super) fn provision_of_a_copy() -> Verb {
    Verb {
        spoil: Spoil::Fstab("lovol:v{} /nowhere lovol x-lovol.from=home@keep"),
        words: "provision ./fstab{}",
        opens: Opens::Copies(&["v{}"]),
        ..create()
    }
}

pub(super) fn provision_of_a_size() -> Verb {
    Verb {
        spoil: Spoil::Fstab("lovol:v{} /nowhere lovol x-lovol.size=512M,x-lovol.grow"),
        words: "provision ./fstab{}",
        ..resize()
    }
}

pub(super) fn provision_of_a_mount() -> Verb {
    Verb {
        spoil: Spoil::Fstab("lovol:spare $TEMP/spare lovol defaults"),
        words: "provision --mount ./fstab{}",
        ..mount()
    }
}

pub(super) fn repair_of_the_index() -> Verb {
    Verb {
        prepare: &["create r{} 1M --fs none"],
        spoil: Spoil::IndexIsOld,
        words: "check --repair",
        states: &["volumes/r{}.img"],
        ..PLAIN
    }
}

pub(super) fn repair_of_a_frozen_guest() -> Verb {
    Verb {
        spoil: Spoil::HomeIsFrozen,
        words: "check --repair",
        ..PLAIN
    }
}
