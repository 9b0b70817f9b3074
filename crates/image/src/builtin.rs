//! The image inside the binary: `barque/hello`, so that a first `run` needs no registry and no network.
//!
//! One layer with one file, a static program of a few hundred bytes that [`crate::elf`] writes. Every byte is determined
//! by this file, so the image's id is the same on every machine of an architecture.

use crate::elf::{Machine, print_and_exit};
use crate::error::Result;
use crate::image::{Image, NewImage};
use crate::ingest::Slot;
use crate::pipeline::digest_of;
use crate::store::Store;
use barque_types::oci::{History, ImageConfig, RootFs, RunConfig};
use barque_types::reference::Reference;
use std::collections::BTreeMap;

/// Its name.
pub const BUILTIN: &str = "barque/hello:latest";

/// 2026-11-23T00:00:00Z, when the text was last changed.
const CREATED: &str = "2026-11-23T00:00:00Z";
const CREATED_SECS: u64 = 1_795_392_000;

const MESSAGE: &str = "\
Hello! This line comes out of a container.

What just happened, with no daemon and nothing downloaded:
  1. barque unpacked a tiny image that it carries inside itself: one layer, one file.
  2. It stacked a writable layer on top (overlayfs) and gave this program namespaces of its own
     for processes, mounts, hostname, IPC and network, cgroups to limit it, a seccomp filter to guard it.
  3. It started /hello as process 1 of that little world, which is now about to end.

Try next:
  barque ps -a                            the containers on this machine
  barque run --rm -it --rootfs / sh       a shell on a copy-on-write view of this machine
  barque run --rm -it debian bash         an image from a registry
";

impl Store {
    /// The built-in image, put into the store if it is not there, if that is what `name` means; else `None`.
    pub fn ensure_builtin(&self, name: &str) -> Result<Option<Image>> {
        let wanted = Reference::parse(name).map(Reference::or_latest);
        let (Ok(wanted), Ok(builtin), Some(machine)) =
            (wanted, Reference::parse(BUILTIN), Machine::host())
        else {
            return Ok(None);
        };
        if wanted != builtin {
            return Ok(None);
        }
        let tar = layer_tar(machine);
        let diff_id = digest_of(&tar);
        let ingest = self.ingest(&[diff_id])?;
        if let Slot::Missing(writer) = ingest.layer(&diff_id)? {
            writer.apply(tar.as_slice(), None)?;
        }
        let image = NewImage {
            config: config(machine, diff_id),
            tags: vec![builtin],
            ..NewImage::default()
        };
        ingest.commit(image, &[]).map(Some)
    }
}

/// The layer: `hello`, 0755, root's.
fn layer_tar(machine: Machine) -> Vec<u8> {
    let program = print_and_exit(machine, MESSAGE);
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..5].copy_from_slice(b"hello");
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(CREATED_SECS);
    header.set_size(program.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(&program);
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}

fn config(machine: Machine, diff_id: barque_types::digest::Digest) -> Vec<u8> {
    let config = ImageConfig {
        created: Some(CREATED.to_owned()),
        author: None,
        architecture: match machine {
            Machine::X86_64 => "amd64".to_owned(),
            Machine::Aarch64 => "arm64".to_owned(),
        },
        os: "linux".to_owned(),
        variant: None,
        config: RunConfig {
            cmd: Some(vec!["/hello".to_owned()]),
            working_dir: "/".to_owned(),
            env: vec!["PATH=/".to_owned()],
            labels: Some(BTreeMap::from([(
                "org.opencontainers.image.title".to_owned(),
                "the image inside barque".to_owned(),
            )])),
            ..RunConfig::default()
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![diff_id],
        },
        history: vec![History {
            created: Some(CREATED.to_owned()),
            created_by: Some("barque (built in)".to_owned()),
            ..History::default()
        }],
    };
    // Plain structs of strings: this cannot fail, and an empty configuration would be refused by commit.
    serde_json::to_vec(&config).unwrap_or_default()
}
