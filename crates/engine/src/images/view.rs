//! Images in Docker's shapes: pure conversions.

use barque_image::{GraphDirs, Image, Names};
use barque_types::docker::{
    Config, GraphDriver, HistoryEntry, ImageInspect, ImageMetadata, ImageSummary, RootFsView,
};
use barque_types::oci::{ImageConfig, RunConfig};
use barque_types::platform::Platform;
use barque_types::reference::Reference;
use barque_types::time::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The platform that an image's configuration names.
pub(super) fn platform(config: &ImageConfig) -> Platform {
    let os = if config.os.is_empty() {
        "linux"
    } else {
        &config.os
    };
    Platform::from_parts(os, &config.architecture, config.variant.as_deref())
}

/// One entry of `images`.
pub(super) fn summary(
    image: &Image,
    names: &Names,
    config: &ImageConfig,
    containers: i64,
) -> ImageSummary {
    ImageSummary {
        id: image.id.to_string(),
        parent_id: String::new(),
        repo_tags: familiar(&names.tags),
        repo_digests: familiar(&names.digests),
        created: seconds(image.created),
        size: image.size,
        shared_size: -1,
        labels: config.config.labels.clone().unwrap_or_default(),
        containers,
    }
}

/// `inspect`.
pub(super) fn inspect(
    image: &Image,
    names: &Names,
    config: &ImageConfig,
    graph: Option<&GraphDirs>,
) -> ImageInspect {
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: familiar(&names.tags),
        repo_digests: familiar(&names.digests),
        parent: String::new(),
        comment: config
            .history
            .last()
            .and_then(|step| step.comment.clone())
            .unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        docker_version: String::new(),
        author: config.author.clone().unwrap_or_default(),
        config: run_config(&config.config),
        container_config: None,
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        size: image.size,
        virtual_size: image.size,
        graph_driver: GraphDriver {
            data: graph.map(graph_data).unwrap_or_default(),
            name: "overlay2".to_owned(),
        },
        root_fs: RootFsView {
            kind: "layers".to_owned(),
            layers: config
                .rootfs
                .diff_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
        },
        metadata: ImageMetadata {
            last_tag_time: image.tagged.to_string(),
        },
    }
}

fn graph_data(graph: &GraphDirs) -> BTreeMap<String, String> {
    let path = |path: &PathBuf| path.display().to_string();
    let lower: Vec<String> = graph.lower.iter().map(path).collect();
    let mut data = BTreeMap::from([
        ("UpperDir".to_owned(), path(&graph.upper)),
        ("WorkDir".to_owned(), path(&graph.work)),
        ("MergedDir".to_owned(), path(&graph.merged)),
    ]);
    // An image of one layer has nothing beneath it, and Docker then shows no such member.
    if !lower.is_empty() {
        data.insert("LowerDir".to_owned(), lower.join(":"));
    }
    data
}

fn run_config(config: &RunConfig) -> Config {
    Config {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.clone(),
        env: config.env.clone(),
        cmd: config.cmd.clone(),
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        labels: config.labels.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone(),
        ..Config::default()
    }
}

/// `history`: steps newest first, each with the size of the layer that it made.
pub(super) fn history(image: &Image, names: &Names, config: &ImageConfig) -> Vec<HistoryEntry> {
    let mut layers = image.layers.iter();
    let mut out: Vec<HistoryEntry> = config
        .history
        .iter()
        .map(|step| HistoryEntry {
            id: "<missing>".to_owned(),
            created: step
                .created
                .as_deref()
                .and_then(|time| time.parse().ok())
                .map_or(0, seconds),
            created_by: step.created_by.clone().unwrap_or_default(),
            tags: Vec::new(),
            size: if step.empty_layer {
                0
            } else {
                layers.next().map_or(0, |layer| layer.size)
            },
            comment: step.comment.clone().unwrap_or_default(),
        })
        .collect();
    // Some builders write no history, or less of it than layers.
    out.extend(layers.map(|layer| HistoryEntry {
        id: "<missing>".to_owned(),
        size: layer.size,
        ..HistoryEntry::default()
    }));
    out.reverse();
    if let Some(newest) = out.first_mut() {
        newest.id = image.id.to_string();
        newest.tags = familiar(&names.tags);
    }
    out
}

fn familiar(names: &[Reference]) -> Vec<String> {
    names.iter().map(Reference::familiar).collect()
}

fn seconds(time: Timestamp) -> i64 {
    if time.is_never() { 0 } else { time.unix_secs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ImageConfig {
        serde_json::from_str(
            r#"{"architecture":"arm64","variant":"v8","os":"linux","created":"2024-01-01T00:00:00Z",
                "config":{"Env":["A=1"],"Cmd":["sh"],"Labels":{"k":"v"}},
                "rootfs":{"type":"layers","diff_ids":[]},
                "history":[{"created":"2024-01-01T00:00:00Z","created_by":"ADD"},
                           {"created_by":"ENV","empty_layer":true},{"created_by":"COPY","comment":"c"}]}"#,
        )
        .unwrap()
    }

    fn image() -> Image {
        let digest = |n| barque_types::digest::Digest::from_sha256([n; 32]);
        let layer = |n, size| barque_image::ImageLayer {
            diff_id: digest(n),
            size,
            opaque: false,
            blob: None,
        };
        Image {
            id: digest(9),
            created: Timestamp::from_unix_nanos(1_000_000_000),
            tagged: Timestamp::from_unix_nanos(1_000_000_000),
            size: 36,
            config: barque_types::oci::Descriptor {
                media_type: String::new(),
                digest: digest(9),
                size: 0,
                platform: None,
                annotations: Default::default(),
            },
            manifest: None,
            layers: vec![layer(1, 1), layer(2, 5), layer(3, 30)],
        }
    }

    #[test]
    fn platforms_compare_normalised() {
        assert_eq!(platform(&config()), "linux/arm64".parse().unwrap());
    }

    #[test]
    fn history_gives_layers_to_their_steps() {
        let names = Names {
            tags: vec![Reference::parse("a:1").unwrap()],
            digests: Vec::new(),
        };
        let steps = history(&image(), &names, &config());
        let short: Vec<_> = steps
            .iter()
            .map(|s| (s.created_by.as_str(), s.size))
            .collect();
        assert_eq!(short, [("", 30), ("COPY", 5), ("ENV", 0), ("ADD", 1)]);
        assert_eq!(steps[0].tags, ["a:1"]);
        assert!(steps[0].id.starts_with("sha256:") && steps[1].id == "<missing>");
    }

    #[test]
    fn inspect_has_dockers_shape() {
        let graph = GraphDirs {
            lower: vec!["/l2".into(), "/l1".into()],
            upper: "/u".into(),
            work: "/w".into(),
            merged: "/m".into(),
        };
        let view = inspect(&image(), &Names::default(), &config(), Some(&graph));
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["GraphDriver"]["Data"]["LowerDir"], "/l2:/l1");
        assert_eq!(json["GraphDriver"]["Name"], "overlay2");
        assert_eq!(json["RootFS"]["Type"], "layers");
        assert_eq!(json["Config"]["Env"][0], "A=1");
        assert_eq!(json["RepoTags"], serde_json::json!([]));
        assert_eq!(json["Metadata"]["LastTagTime"], "1970-01-01T00:00:01Z");
    }
}
