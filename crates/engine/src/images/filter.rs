//! `images --filter`.

use crate::error::{Error, Kind, Result};
use barque_image::{Image, Names};
use barque_types::oci::ImageConfig;
use barque_types::time::Timestamp;

/// Parsed filters: values of one key are alternatives (but all labels must fit), keys are conditions.
#[derive(Debug, Default)]
pub(super) struct Filter {
    patterns: Vec<String>,
    dangling: Option<bool>,
    labels: Vec<(String, Option<String>)>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Filter {
    /// `created` gives the time that an image named in `before` or `since` was built.
    pub fn parse(
        filters: &[(String, String)],
        created: impl Fn(&str) -> Result<Timestamp>,
    ) -> Result<Self> {
        let mut out = Self::default();
        for (key, value) in filters {
            let invalid = || Error::new(Kind::Invalid, format!("invalid filter '{key}={value}'"));
            match key.as_str() {
                "reference" => out.patterns.push(value.clone()),
                "dangling" => {
                    out.dangling = match value.as_str() {
                        "1" | "true" | "True" | "TRUE" | "t" | "T" => Some(true),
                        "0" | "false" | "False" | "FALSE" | "f" | "F" => Some(false),
                        _ => return Err(invalid()),
                    };
                }
                "label" => out.labels.push(match value.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (value.clone(), None),
                }),
                "before" => out.before = earliest(out.before, created(value)?),
                "until" => {
                    let time = value.parse().map_err(|_| invalid())?;
                    out.before = earliest(out.before, time);
                }
                "since" => {
                    let time = created(value)?;
                    out.since = Some(out.since.map_or(time, |since| since.max(time)));
                }
                _ => return Err(Error::new(Kind::Invalid, format!("invalid filter '{key}'"))),
            }
        }
        Ok(out)
    }

    /// The names to show an image with, or `None` if it is not to be shown.
    pub fn names(&self, image: &Image, mut names: Names) -> Option<Names> {
        let dangling = names.tags.is_empty();
        let in_time = self.before.is_none_or(|time| image.created < time)
            && self.since.is_none_or(|time| image.created > time);
        if !in_time || self.dangling.is_some_and(|wanted| wanted != dangling) {
            return None;
        }
        if self.patterns.is_empty() {
            return Some(names);
        }
        let fits = |name: &barque_types::reference::Reference| {
            self.patterns
                .iter()
                .any(|pattern| name.matches_pattern(pattern))
        };
        names.tags.retain(fits);
        names.digests.retain(fits);
        (!names.tags.is_empty() || !names.digests.is_empty()).then_some(names)
    }

    /// Whether the image has all labels asked for.
    pub fn fits_labels(&self, config: &ImageConfig) -> bool {
        let have = config.config.labels.as_ref();
        self.labels.iter().all(|(key, value)| {
            have.and_then(|labels| labels.get(key))
                .is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        })
    }
}

fn earliest(a: Option<Timestamp>, b: Timestamp) -> Option<Timestamp> {
    Some(a.map_or(b, |a| a.min(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_types::digest::Digest;
    use barque_types::oci::Descriptor;
    use barque_types::reference::Reference;

    fn image(secs: i128) -> Image {
        let digest = Digest::from_sha256([1; 32]);
        Image {
            id: digest,
            created: Timestamp::from_unix_nanos(secs * 1_000_000_000),
            tagged: Timestamp::from_unix_nanos(0),
            size: 0,
            config: Descriptor {
                media_type: String::new(),
                digest,
                size: 0,
                platform: None,
                annotations: Default::default(),
            },
            manifest: None,
            layers: Vec::new(),
        }
    }

    fn names(tags: &[&str]) -> Names {
        Names {
            tags: tags
                .iter()
                .map(|tag| Reference::parse(tag).unwrap())
                .collect(),
            digests: Vec::new(),
        }
    }

    fn parse(filters: &[(&str, &str)]) -> Result<Filter> {
        let filters: Vec<_> = filters
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        Filter::parse(&filters, |name| Ok(image(name.parse().unwrap()).created))
    }

    #[test]
    fn table() {
        let table: [(&[(&str, &str)], usize); 12] = [
            (&[], 2),
            (&[("reference", "a")], 1),
            (&[("reference", "a:*")], 1),
            (&[("reference", "a"), ("reference", "x/*")], 2),
            (&[("reference", "nope")], 0),
            (&[("dangling", "true")], 0),
            (&[("dangling", "false")], 2),
            (&[("before", "101")], 2),
            (&[("before", "100")], 0),
            (&[("since", "99")], 2),
            (&[("since", "99"), ("since", "100")], 0),
            (&[("until", "1970-01-01T00:01:00Z")], 0),
        ];
        for (filters, want) in table {
            let shown = parse(filters)
                .unwrap()
                .names(&image(100), names(&["a:1", "x/b:2"]));
            assert_eq!(
                shown.map_or(0, |names| names.tags.len()),
                want,
                "{filters:?}"
            );
        }
        let dangling = parse(&[("dangling", "1")]).unwrap();
        assert!(dangling.names(&image(1), names(&[])).is_some());
    }

    #[test]
    fn labels() {
        let mut config = ImageConfig::default();
        config.config.labels = Some([("a".to_owned(), "1".to_owned())].into());
        for (filter, want) in [("a", true), ("a=1", true), ("a=2", false), ("b", false)] {
            assert_eq!(
                parse(&[("label", filter)]).unwrap().fits_labels(&config),
                want,
                "{filter}"
            );
        }
        assert!(
            !parse(&[("label", "a"), ("label", "b")])
                .unwrap()
                .fits_labels(&config)
        );
    }

    #[test]
    fn refuses() {
        for filter in [("dangling", "maybe"), ("until", "x"), ("colour", "red")] {
            assert_eq!(parse(&[filter]).unwrap_err().kind(), Kind::Invalid);
        }
    }
}
