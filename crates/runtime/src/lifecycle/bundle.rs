//! The bundle: a directory with `config.json`, and a root file system that it names (runtime-spec, bundle.md).

use crate::error::{Context, Error, Result};
use barque_types::spec::Spec;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A configuration larger than this is a mistake or an attack, bytes.
const MAX_CONFIG: u64 = 32 << 20;

/// Reads and parses `config.json` of a bundle, or the file `config`; also returns its bytes.
///
/// # Errors
/// The file is absent, too large, not JSON, or not a configuration: the error names the file, and where in it.
pub fn load(bundle: &Path, config: Option<&Path>) -> Result<(Spec, Vec<u8>)> {
    let path = match config {
        Some(path) => path.to_owned(),
        None => bundle.join("config.json"),
    };
    // A FIFO or a device in the place of the file must not hang the runtime.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(CWD, &path, flags, Mode::empty()).map_err(|e| {
        let error = Error::step(format!("opening {}", path.display()), e);
        error.with_hint("a bundle is a directory with a config.json; `spec` writes an example")
    })?;
    let mut text = Vec::new();
    let read = File::from(file).take(MAX_CONFIG + 1).read_to_end(&mut text);
    read.step(|| format!("reading {}", path.display()))?;
    if text.len() as u64 > MAX_CONFIG {
        let why = format!("is larger than {} MiB", MAX_CONFIG >> 20);
        return Err(Error::invalid(path.display().to_string(), why));
    }
    let spec = parse(&text).map_err(|why| Error::invalid(path.display().to_string(), why))?;
    Ok((spec, text))
}

/// Parses a configuration.
pub(super) fn parse(text: &[u8]) -> std::result::Result<Spec, String> {
    let spec: Spec = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    check_version(&spec.oci_version)?;
    Ok(spec)
}

/// Every 1.x is understood: members that a later one adds are optional (runtime-spec, config.md
/// "Specification version": SemVer).
fn check_version(version: &str) -> std::result::Result<(), String> {
    let mut parts = version
        .split(['-', '+'])
        .next()
        .unwrap_or_default()
        .split('.');
    let number = |part: Option<&str>| part.and_then(|p| p.parse::<u32>().ok());
    match (
        number(parts.next()),
        number(parts.next()),
        number(parts.next()),
        parts.next(),
    ) {
        (Some(1), Some(_), Some(_), None) => Ok(()),
        (Some(_), Some(_), Some(_), None) => {
            Err(format!("ociVersion {version:?} is not supported: 1.x is"))
        }
        _ => Err(format!("ociVersion {version:?} is not a version")),
    }
}

/// The root file system: absolute, without links, and a directory.
pub(super) fn root(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let Some(root) = &spec.root else {
        return Err(Error::invalid(
            "root",
            "the configuration names no root file system",
        ));
    };
    if root.path.as_os_str().is_empty() {
        return Err(Error::invalid("root.path", "is empty"));
    }
    let path = bundle.join(&root.path);
    let real = path
        .canonicalize()
        .step(|| format!("looking at the root file system {}", path.display()))?;
    if !real.is_dir() {
        return Err(Error::invalid(
            format!("root.path {}", path.display()),
            "is not a directory",
        ));
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for good in ["1.0.0", "1.0.2-dev", "1.2.0", "1.3.0+build"] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
        for bad in [
            "", "1", "1.0", "2.0.0", "0.9.0", "x.y.z", "1.0.0.0", "1.0.x",
        ] {
            assert!(check_version(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let dir = tempfile::tempdir().expect("tempdir");
        let error = load(dir.path(), None).expect_err("absent").to_string();
        assert!(
            error.contains("config.json: no such file") && error.contains("bundle"),
            "{error}"
        );
        std::fs::write(
            dir.path().join("config.json"),
            "{\"ociVersion\":\"1.0.0\",\n \"process\": 3}",
        )
        .expect("write");
        let error = load(dir.path(), None).expect_err("nonsense").to_string();
        assert!(error.contains("line 2 column"), "{error}");
    }
}
