//! The callers of the OCI runtime as Debian 13 has them (containerd 1.7, Docker 26, Podman 5), beside those of
//! Debian 12, which are installed: a root file system that the tests make a machine of.

use crate::{target, trixie};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What they are, and what of a Debian they or their tests run.
const PACKAGES: [&str; 10] = [
    "containerd",
    "docker.io",
    "docker-cli",
    "podman",
    // What Podman makes its networks with.
    "netavark",
    "nftables",
    // `docker top` is `ps`, of the processes that the runtime names.
    "procps",
    // The machine's own start, and looks at it: umount(8), readlink(1).
    "coreutils",
    "dash",
    "mount",
];

/// The root, unpacked if that has not been done.
pub(crate) fn ready() -> Result<PathBuf> {
    let home = target().join("callers");
    let root = home.join("root");
    // Written last, so it stands for all the rest; of an older list it is not complete.
    let complete = home.join("complete");
    let list = PACKAGES.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|found| found == list) {
        return Ok(root);
    }
    println!(
        "unpacking containerd, Docker and Podman of Debian {} in {}",
        trixie::RELEASE,
        home.display()
    );
    unpack(&home, &root).context("the tests of callers need those of Debian 13")?;
    fs::write(complete, list)?;
    Ok(root)
}

fn unpack(home: &Path, root: &Path) -> Result<()> {
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    trixie::unpack(&PACKAGES, root, &home.join("apt"))?;
    // What maintainer scripts would have done: the merged /usr, the choice of the firewall's program.
    for name in ["bin", "sbin", "lib", "lib64"] {
        if fs::symlink_metadata(root.join(name)).is_err() {
            symlink(format!("usr/{name}"), root.join(name))?;
        }
    }
    for name in ["iptables", "ip6tables"] {
        symlink("xtables-nft-multi", root.join("usr/sbin").join(name))?;
    }
    for name in ["proc", "sys", "dev", "run", "tmp", "root", "var/tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    Ok(())
}
