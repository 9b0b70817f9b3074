//! CRIU of Debian 13, for a machine that runs Debian 12: its own (3.17) fails on newer kernels.
//!
//! The package is unpacked below `target/criu` ([`trixie`]). A script runs the program with the loader and the
//! libraries that it was built for.

use crate::{target, trixie};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, unpacked if that has not been done.
pub(crate) fn ready() -> Result<PathBuf> {
    let home = target().join("criu");
    let program = home.join("bin/criu");
    // Written last, so it stands for all the rest.
    if program.exists() {
        return Ok(program);
    }
    println!(
        "unpacking CRIU of Debian {} in {}",
        trixie::RELEASE,
        home.display()
    );
    unpack(&home).context("the tests of checkpoints need CRIU 4.1 of Debian 13")?;
    Ok(program)
}

fn unpack(home: &Path) -> Result<()> {
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    let root = home.join("root");
    trixie::unpack(&["criu"], &root, &home.join("apt"))?;
    script(home, &root)
}

/// `bin/criu`, which is complete or absent.
fn script(home: &Path, root: &Path) -> Result<()> {
    let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let loader = fs::read_dir(root.join(&libraries))?
        .filter_map(|entry| Some(name_of(&entry.ok()?.path())))
        .find(|name| name.starts_with("ld-linux"))
        .context("the C library has no loader")?;
    // Relative to itself, so that a copy of the directory works.
    let text = format!(
        "#!/bin/sh\nroot=${{0%/*}}/../root\n\
         exec \"$root/{libraries}/{loader}\" --library-path \"$root/{libraries}\" \
         \"$root/usr/sbin/criu\" \"$@\"\n"
    );
    let bin = home.join("bin");
    fs::create_dir_all(&bin)?;
    let new = bin.join("criu.new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    let version = Command::new(&new).arg("--version").output()?;
    if !version.status.success() {
        bail!(
            "{} does not run: {}",
            new.display(),
            String::from_utf8_lossy(&version.stderr)
        );
    }
    fs::rename(new, bin.join("criu"))?;
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
