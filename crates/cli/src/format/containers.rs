//! A row of `ps`.

use super::{Listing, created_at, ellipsis, labels, short_id};
use crate::template::{Labels, Row};
use barque_types::docker::ContainerSummary;
use barque_types::{human, size};
use std::collections::BTreeMap;

/// How containers are listed.
pub fn listing(with_size: bool) -> Listing {
    let table =
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
    Listing {
        headings: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("CreatedAt", "CREATED AT"),
            ("RunningFor", "CREATED"),
            ("Ports", "PORTS"),
            ("State", "STATE"),
            ("Status", "STATUS"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
        ],
        table: if with_size {
            format!("{table}\t{{{{.Size}}}}")
        } else {
            table.to_owned()
        },
        labelled: true,
    }
}

/// The row; `now` in Unix seconds.
pub fn row(container: &ContainerSummary, whole: bool, now: i64) -> Row {
    let id = if whole {
        container.id.as_str()
    } else {
        short_id(&container.id)
    };
    let command = if whole {
        container.command.clone()
    } else {
        ellipsis(&container.command, 20)
    };
    let names: Vec<&str> = container
        .names
        .iter()
        .map(|name| name.trim_start_matches('/'))
        .collect();
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| {
            if whole {
                mount.source.clone()
            } else {
                ellipsis(&mount.source, 15)
            }
        })
        .collect();
    Row {
        columns: BTreeMap::from([
            ("ID", id.into()),
            ("Names", names.join(",").into()),
            ("Image", image(container, whole).into()),
            ("Command", quoted(&command).into()),
            ("CreatedAt", created_at(container.created).into()),
            ("RunningFor", human::ago(now - container.created).into()),
            ("Ports", "".into()),
            ("State", container.state.as_str().into()),
            ("Status", container.status.as_str().into()),
            ("Size", size_text(container).into()),
            ("Labels", labels(&container.labels).into()),
            ("Mounts", mounts.join(",").into()),
            ("LocalVolumes", "0".into()),
            (
                "Networks",
                container.host_config.network_mode.as_str().into(),
            ),
        ]),
        labels: Some(Labels::Of(container.labels.clone())),
    }
}

fn image(container: &ContainerSummary, whole: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    if !whole && (container.image.starts_with("sha256:") || container.image == container.image_id) {
        return short_id(&container.image).to_owned();
    }
    container.image.clone()
}

/// As Go's `%q`, which keeps letters beyond ASCII.
fn quoted(command: &str) -> String {
    let mut out = String::from('"');
    for c in command.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn size_text(container: &ContainerSummary) -> String {
    let own = size::decimal(container.size_rw.unwrap_or(0));
    match container.size_root_fs {
        Some(all) if all > 0 => format!("{own} (virtual {})", size::decimal(all)),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::list;
    use barque_types::docker::{MountPoint, Status, SummaryHostConfig};

    fn container() -> ContainerSummary {
        ContainerSummary {
            id: "0123456789abcdef".repeat(4),
            names: vec!["/web".into()],
            image: "busybox:latest".into(),
            image_id: "sha256:feed".into(),
            command: "httpd -f -p 8080 -h /srv".into(),
            created: 1_700_000_000,
            labels: BTreeMap::from([("a".into(), "1".into()), ("b".into(), String::new())]),
            state: Status::Running,
            status: "Up 2 minutes".into(),
            host_config: SummaryHostConfig {
                network_mode: "none".into(),
            },
            mounts: vec![MountPoint {
                source: "/a/long/path/on/the/host".into(),
                ..MountPoint::default()
            }],
            size_rw: Some(3),
            size_root_fs: Some(4_261_550),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn table() {
        let row = row(&container(), false, 1_700_000_120);
        assert_eq!(
            list(&listing(false), None, false, vec![row]).unwrap(),
            "\
CONTAINER ID   IMAGE            COMMAND                  CREATED         STATUS         PORTS     NAMES
0123456789ab   busybox:latest   \"httpd -f -p 8080 -h…\"   2 minutes ago   Up 2 minutes             web
"
        );
    }

    #[test]
    fn templates() {
        let short = row(&container(), false, 1_700_000_120);
        let text = "{{.State}}|{{.Size}}|{{.Labels}}|{{.Label \"a\"}}|{{.Mounts}}|{{.Networks}}|{{.CreatedAt}}";
        assert_eq!(
            list(&listing(false), Some(text), false, vec![short]).unwrap(),
            "running|3B (virtual 4.26MB)|a=1,b=|1|/a/long/path/o…|none|2023-11-14 22:13:20 +0000 UTC\n"
        );
        let whole = row(&container(), true, 1_700_000_120);
        assert_eq!(
            list(
                &listing(false),
                Some("{{.ID}} {{.Command}}"),
                false,
                vec![whole]
            )
            .unwrap(),
            format!(
                "{} \"httpd -f -p 8080 -h /srv\"\n",
                "0123456789abcdef".repeat(4)
            )
        );
    }

    #[test]
    fn image_names() {
        let mut untagged = container();
        untagged.image = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(image(&untagged, false), "abababababab");
        assert_eq!(image(&untagged, true), untagged.image);
        untagged.image.clear();
        assert_eq!(image(&untagged, false), "<no image>");
    }
}
