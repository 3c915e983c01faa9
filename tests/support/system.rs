//! A machine on which lovol is installed, as far as mount(8) looks.

use std::fs;
use std::path::PathBuf;

use super::namespace::in_own_namespace;
use super::pool::TestPool;

/// Runs `body` where `/sbin/mount.lovol` is the lovol under test and `/etc/fstab` is empty and
/// nobody else's, with a pool; nobody else sees any of it.
#[track_caller]
pub(crate) fn on_own_system(body: impl FnOnce(&TestPool) + Send) {
    in_own_namespace(|| {
        let pool = TestPool::new();
        install_helper(&pool);
        body(&pool);
        pool.sh("umount /etc/fstab /usr/sbin /run/mount");
    });
}

/// The same, with `/var/lib`, `/home`, `/srv` and `/mnt` of its own on one large filesystem with
/// reflinks, empty; what is typed there means the default pool.
#[track_caller]
pub(crate) fn on_own_machine(body: impl FnOnce(&TestPool) + Send) {
    const DIRS: &str = "/var/lib /home /srv /mnt";
    in_own_namespace(|| {
        let machine = TestPool::raw_of(400 << 30);
        install_helper(&machine);
        machine.sh(&format!(
            "for dir in {DIRS}; do
                mkdir -p $POOL$dir
                mount --bind $POOL$dir $dir
            done"
        ));
        body(&machine);
        // What is attached keeps them busy.
        machine.sh(&format!(
            "umount --lazy {DIRS}; umount /etc/fstab /usr/sbin /run/mount"
        ));
    });
}

fn install_helper(pool: &TestPool) {
    pool.sh(
        "mkdir changes; mount -t tmpfs tmpfs changes; mkdir changes/{upper,work}
        mount -t overlay -o lowerdir=/usr/sbin,upperdir=changes/upper,workdir=changes/work \
            overlay /usr/sbin
        ln -s $(command -v lovol) /usr/sbin/mount.lovol
        touch changes/fstab /etc/fstab; mount --bind changes/fstab /etc/fstab
        mkdir -p /run/mount; mount -t tmpfs tmpfs /run/mount",
    );
}

/// Writes `/etc/fstab`, in which `$POOL` and `$TEMP` are the test's.
pub(crate) fn write_fstab(pool: &TestPool, text: &str) -> PathBuf {
    let file = PathBuf::from("/etc/fstab");
    let text = text.replace("$POOL", &pool.path().display().to_string());
    let text = text.replace("$TEMP", &pool.temp().display().to_string());
    fs::write(&file, text).unwrap();
    file
}
