//! Packages of Debian 13 on a machine that runs Debian 12: unpacked below `target`, with everything that they
//! need, the C library too. Nothing of the machine changes.
//!
//! apt does the work, with a configuration, lists and a (empty) status of its own: so it resolves the
//! dependencies from nothing, verifies signatures with Debian's keyring, and takes the mirror that the machine
//! takes for its own release.

use crate::must;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Debian 13.
pub(crate) const RELEASE: &str = "trixie";
/// Its keys are here since Debian 12.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks packages and what they depend on into `root`; `work` is for apt, and gone afterwards.
pub(crate) fn unpack(packages: &[&str], root: &Path, work: &Path) -> Result<()> {
    let apt = work;
    for dir in ["state/lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(apt.join(dir))?;
    }
    // apt refuses to work without a status of dpkg; an empty one means that nothing is installed.
    fs::write(apt.join("status"), "")?;
    fs::write(
        apt.join("sources"),
        format!("deb [signed-by={KEYRING}] {} {RELEASE} main\n", mirror()?),
    )?;
    fs::write(apt.join("apt.conf"), configuration(apt))?;
    must(apt_get(apt).arg("update"))?;
    must(
        apt_get(apt)
            .args(["-y", "--download-only", "install"])
            .args(packages),
    )?;
    for entry in fs::read_dir(apt.join("cache/archives"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            must(Command::new("dpkg-deb").arg("-x").arg(&path).arg(root))?;
        }
    }
    fs::remove_dir_all(apt)?;
    Ok(())
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
