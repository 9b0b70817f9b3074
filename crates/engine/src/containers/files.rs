//! `hostname`, `hosts` and `resolv.conf`: what a container finds in its `/etc` about names.

use super::record::Container;
use crate::error::{Context, Result};
use barque_types::container::NetworkMode;
use rustix::fs::{Mode, OFlags};
use std::path::Path;

/// What Docker writes for a container without networks.
const HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Writes the three files into the container's directory, anew at each start: they follow the host's, and
/// nothing needs to be synced.
pub(crate) fn write(container: &Container) -> Result<()> {
    let config = &container.config;
    let hosts = match config.request.network {
        NetworkMode::Host => host_file("/etc/hosts").unwrap_or_else(|| HOSTS.to_owned()),
        _ => HOSTS.to_owned(),
    };
    let resolv = host_file("/etc/resolv.conf").unwrap_or_default();
    let name = match config.process.hostname.as_str() {
        "" => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        name => name.to_owned(),
    };
    put(&container.dir, "hostname", &format!("{name}\n"))?;
    put(&container.dir, "hosts", &hosts)?;
    put(&container.dir, "resolv.conf", &resolv)
}

/// A missing or unreadable file of the host is no reason not to run a container.
fn host_file(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// World-readable whatever the umask: the container's users read them.
fn put(dir: &Path, name: &str, text: &str) -> Result<()> {
    let path = dir.join(name);
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).while_("create", &path)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o644)).while_("set the mode of", &path)?;
    std::io::Write::write_all(&mut std::fs::File::from(fd), text.as_bytes()).while_("write", &path)
}
