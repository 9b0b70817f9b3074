//! `system check`: everything on disk against its digests.

use crate::Engine;
use crate::error::Result;
use barque_types::digest::Digest;
use serde::Serialize;

/// What a check found, in the shape that `--format` walks.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StoreCheck {
    /// Images that were looked at.
    pub images: usize,
    /// Layers that were read and compared.
    pub layers: usize,
    /// Containers whose records were read.
    pub containers: usize,
    /// Bytes of the layers' archives.
    pub bytes: u64,
    /// What is wrong; empty is good.
    pub problems: Vec<Problem>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Problem {
    /// `image sha256:…`, `layer sha256:…`, `name …`, `container …`.
    pub subject: String,
    /// What is wrong with it, and what to do.
    pub what: String,
}

impl Engine {
    /// Reads everything and computes all digests again. Changes nothing. `tell` hears each layer's diff id as its turn
    /// comes, from several threads.
    pub fn check(&self, tell: &(dyn Fn(&Digest) + Sync)) -> Result<StoreCheck> {
        let (containers, unreadable) = self.load_all()?;
        let report = self.store.check(tell)?;
        let mut problems: Vec<_> = unreadable
            .iter()
            .map(|error| Problem {
                subject: "container".to_owned(),
                what: error.chain(),
            })
            .collect();
        problems.extend(report.problems.into_iter().map(|problem| Problem {
            subject: problem.subject,
            what: problem.what,
        }));
        Ok(StoreCheck {
            images: report.images,
            layers: report.layers,
            containers: containers.len() + unreadable.len(),
            bytes: report.bytes,
            problems,
        })
    }
}
