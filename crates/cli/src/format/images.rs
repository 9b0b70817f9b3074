//! The rows of `images`: one for each name of each image.

use super::{Listing, created_at, short_id};
use crate::template::Row;
use barque_types::docker::ImageSummary;
use barque_types::{human, size};
use std::collections::BTreeMap;

/// How images are listed.
pub fn listing(with_digests: bool) -> Listing {
    let digest = if with_digests { "{{.Digest}}\t" } else { "" };
    Listing {
        headings: &[
            ("ID", "IMAGE ID"),
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("VirtualSize", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
            ("Containers", "CONTAINERS"),
        ],
        table: format!(
            "{{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
        ),
        labelled: false,
    }
}

const NONE: &str = "<none>";

/// Repository, tag and digest of each row.
fn names(image: &ImageSummary) -> Vec<(String, String, String)> {
    let digests: Vec<(&str, &str)> = image
        .repo_digests
        .iter()
        .filter_map(|name| name.split_once('@'))
        .filter(|(name, _)| *name != NONE)
        .collect();
    let mut rows = Vec::new();
    for name in image
        .repo_tags
        .iter()
        .filter(|name| *name != "<none>:<none>")
    {
        // The last colon: a registry's port has one, too.
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, NONE));
        let digest = digests
            .iter()
            .find(|(of, _)| *of == repository)
            .map_or(NONE, |(_, digest)| digest);
        rows.push((repository.to_owned(), tag.to_owned(), digest.to_owned()));
    }
    for (repository, digest) in digests {
        if !rows.iter().any(|(known, ..)| known == repository) {
            rows.push((repository.to_owned(), NONE.to_owned(), digest.to_owned()));
        }
    }
    if rows.is_empty() {
        rows.push((NONE.to_owned(), NONE.to_owned(), NONE.to_owned()));
    }
    rows
}

/// The rows of one image; `now` in Unix seconds.
pub fn rows(image: &ImageSummary, whole: bool, now: i64) -> Vec<Row> {
    let id = if whole {
        image.id.clone()
    } else {
        short_id(&image.id).to_owned()
    };
    let known = |count: i64| {
        if count < 0 {
            "N/A".to_owned()
        } else {
            count.to_string()
        }
    };
    let bytes = |count: i64| u64::try_from(count).map_or_else(|_| "N/A".to_owned(), size::decimal);
    let unique = if image.shared_size < 0 {
        -1
    } else {
        image.size.cast_signed() - image.shared_size
    };
    // Go's zero time and the epoch both stand for "the configuration does not say".
    let since = if image.created <= 0 {
        "N/A".to_owned()
    } else {
        human::ago(now - image.created)
    };
    names(image)
        .into_iter()
        .map(|(repository, tag, digest)| Row {
            columns: BTreeMap::from([
                ("ID", id.as_str().into()),
                ("Repository", repository.into()),
                ("Tag", tag.into()),
                ("Digest", digest.into()),
                ("CreatedSince", since.as_str().into()),
                ("CreatedAt", created_at(image.created).into()),
                ("Size", size::decimal(image.size).into()),
                ("VirtualSize", size::decimal(image.size).into()),
                ("SharedSize", bytes(image.shared_size).into()),
                ("UniqueSize", bytes(unique).into()),
                ("Containers", known(image.containers).into()),
            ]),
            labels: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::list;

    fn image() -> ImageSummary {
        ImageSummary {
            id: format!("sha256:{}", "ab".repeat(32)),
            repo_tags: vec!["busybox:latest".into(), "localhost:5000/bb:1".into()],
            repo_digests: vec![format!("busybox@sha256:{}", "cd".repeat(32))],
            created: 1_700_000_000,
            size: 4_261_550,
            shared_size: -1,
            containers: 2,
            ..ImageSummary::default()
        }
    }

    #[test]
    fn table() {
        let now = 1_700_000_000 + 14 * 86_400;
        assert_eq!(
            list(&listing(false), None, false, rows(&image(), false, now)).unwrap(),
            "\
REPOSITORY          TAG       IMAGE ID       CREATED       SIZE
busybox             latest    abababababab   2 weeks ago   4.26MB
localhost:5000/bb   1         abababababab   2 weeks ago   4.26MB
"
        );
    }

    #[test]
    fn names_without_tags() {
        let mut bare = image();
        bare.repo_tags.clear();
        assert_eq!(
            names(&bare),
            [(
                "busybox".into(),
                "<none>".into(),
                format!("sha256:{}", "cd".repeat(32))
            )]
        );
        bare.repo_digests.clear();
        assert_eq!(
            names(&bare),
            [("<none>".into(), "<none>".into(), "<none>".into())]
        );
        let text = "{{.Repository}} {{.Digest}} {{.Containers}} {{.UniqueSize}}";
        assert_eq!(
            list(&listing(false), Some(text), false, rows(&bare, false, 0)).unwrap(),
            "<none> <none> 2 N/A\n"
        );
    }
}
