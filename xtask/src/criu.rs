//! CRIU of Debian 13, for a machine that runs Debian 12: its own (3.17) fails on newer kernels.
//!
//! The package and everything that it needs, its C library too, are unpacked below `target/criu`; nothing
//! of the machine changes. A script runs the program with the loader and the libraries that it was built
//! for. apt does the work, with a configuration, lists and a (empty) status of its own: so it resolves
//! the dependencies from nothing, verifies signatures with Debian's keyring, and takes the mirror that the
//! machine takes for its own release.

use crate::{must, target};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The release that has CRIU 4.1.
const RELEASE: &str = "trixie";
/// Its keys are here since Debian 12.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The program, unpacked if that has not been done.
pub(crate) fn ready() -> Result<PathBuf> {
    let home = target().join("criu");
    let program = home.join("bin/criu");
    // Written last, so it stands for all the rest.
    if program.exists() {
        return Ok(program);
    }
    println!("unpacking CRIU of Debian {RELEASE} in {}", home.display());
    unpack(&home).context("the tests of checkpoints need CRIU 4.1 of Debian 13")?;
    Ok(program)
}

fn unpack(home: &Path) -> Result<()> {
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    let apt = home.join("apt");
    for dir in ["state/lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(apt.join(dir))?;
    }
    // apt refuses to work without a status of dpkg; an empty one means that nothing is installed.
    fs::write(apt.join("status"), "")?;
    fs::write(
        apt.join("sources"),
        format!("deb [signed-by={KEYRING}] {} {RELEASE} main\n", mirror()?),
    )?;
    fs::write(apt.join("apt.conf"), configuration(&apt))?;
    must(apt_get(&apt).arg("update"))?;
    must(apt_get(&apt).args(["-y", "--download-only", "install", "criu"]))?;
    let root = home.join("root");
    for entry in fs::read_dir(apt.join("cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            must(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&root))?;
        }
    }
    fs::remove_dir_all(&apt)?;
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

fn apt_get(dir: &Path) -> Command {
    let mut command = Command::new("apt-get");
    // Read after the machine's own, which may know a proxy.
    command
        .arg("-c")
        .arg(dir.join("apt.conf"))
        .arg("-q")
        .stdin(std::process::Stdio::null());
    command
}

/// Everything that apt would take from the machine, elsewhere.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Dir::Etc::sourcelist \"{dir}/sources\";\n\
         Dir::Etc::sourceparts \"{dir}/parts\";\n\
         Dir::Etc::preferencesparts \"{dir}/parts\";\n\
         Dir::State \"{dir}/state\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         Dir::Cache::archives \"{dir}/cache/archives\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Acquire::Languages \"none\";\n\
         APT::Install-Recommends \"false\";\n\
         APT::Sandbox::User \"root\";\n"
    )
}

/// Where this machine gets the packages of its own release from.
fn mirror() -> Result<String> {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"])
        .arg("Created-By: Packages")
        .output()
        .context("ask apt for its sources")?;
    let os = fs::read_to_string("/etc/os-release")?;
    let release = os
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no release")?;
    find_mirror(&String::from_utf8_lossy(&targets.stdout), release)
        .with_context(|| format!("apt has no source for {release}"))
}

fn find_mirror(targets: &str, release: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let (of, uri) = line.split_once(' ')?;
        (of == release).then(|| uri.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_release_itself() {
        let targets = "bookworm-security http://a/security/\nbookworm http://a/debian/\n";
        assert_eq!(
            find_mirror(targets, "bookworm").as_deref(),
            Some("http://a/debian/")
        );
        assert_eq!(find_mirror(targets, "trixie"), None);
    }
}
