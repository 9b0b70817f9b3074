//! `info`.

use super::Verb;
use super::inspect::FORMAT_HELP;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::format::object;
use crate::{output, table};
use barque_types::docker::Info;
use barque_types::size;
use clap::{ArgMatches, Args};
use std::fmt::Write;

#[derive(Debug, Args)]
struct Flags {
    #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    #[arg(hide = true)]
    args: Vec<String>,
}

/// `info`.
pub const VERB: Verb = Verb {
    name: "info",
    long: &["system info"],
    about: "Display system-wide information",
    usage: "[OPTIONS]",
    examples: "barque info\nbarque info -f '{{.CgroupVersion}} {{.Driver}}'",
    arguments: (0, 0),
    flags: Flags::augment_args,
    run,
    common: true,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let info = context.engine()?.info().map_err(failed)?;
    match flags.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => output::line(&object::formatted(format, &info)?)?,
        None => {
            output::text(&plain(&info))?;
            output::warn(&info.warnings);
        }
    }
    Ok(0)
}

/// Docker's layout: a blank, the name, a colon, the value; and the table of controllers.
fn plain(info: &Info) -> String {
    let mut out = String::new();
    let mut put = |indent: usize, name: &str, value: &str| {
        let _ = writeln!(out, "{:indent$}{name}: {value}", "");
    };
    put(0, "Version", &info.server_version);
    put(0, "Containers", &info.containers.to_string());
    put(1, "Running", &info.containers_running.to_string());
    put(1, "Paused", &info.containers_paused.to_string());
    put(1, "Stopped", &info.containers_stopped.to_string());
    put(0, "Images", &info.images.to_string());
    put(0, "Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        put(1, name, value);
    }
    put(0, "Logging Driver", &info.logging_driver);
    put(0, "Cgroup Driver", &info.cgroup_driver);
    put(0, "Cgroup Version", &info.cgroup_version);
    put(0, "Default Runtime", &info.default_runtime);
    put(0, "Security Options", &info.security_options.join(", "));
    put(0, "Kernel Version", &info.kernel_version);
    put(0, "Operating System", &info.operating_system);
    put(0, "OSType", &info.os_type);
    put(0, "Architecture", &info.architecture);
    put(0, "CPUs", &info.ncpu.to_string());
    put(0, "Total Memory", &size::binary(info.mem_total));
    put(0, "Name", &info.name);
    put(0, "Root Dir", &info.docker_root_dir);
    put(0, "Run Dir", &info.run_root);
    out.push_str("Cgroup Controllers:\n");
    out.push_str(&controllers(info));
    out
}

fn controllers(info: &Info) -> String {
    let mut rows = String::from(" SUBSYSTEM\tHIERARCHY\tCGROUPS\tENABLED\tVERSION\n");
    for row in &info.cgroup_controllers {
        let cells = [
            row.hierarchy.to_string(),
            row.num_cgroups.to_string(),
            u8::from(row.enabled).to_string(),
        ];
        let _ = writeln!(
            rows,
            " {}\t{}\t{}",
            row.subsystem,
            cells.join("\t"),
            row.version
        );
    }
    table::align(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_types::docker::ControllerRow;

    #[test]
    fn layout() {
        let info = Info {
            containers: 2,
            driver: "overlay2".into(),
            driver_status: vec![["Backing Filesystem".into(), "extfs".into()]],
            mem_total: 1 << 30,
            cgroup_controllers: vec![ControllerRow {
                subsystem: "memory".into(),
                hierarchy: 7,
                num_cgroups: 31,
                enabled: true,
                version: "v1".into(),
            }],
            ..Info::default()
        };
        let text = plain(&info);
        assert!(text.contains("\nContainers: 2\n Running: 0\n"), "{text}");
        assert!(
            text.contains("Storage Driver: overlay2\n Backing Filesystem: extfs\n"),
            "{text}"
        );
        assert!(text.contains("Total Memory: 1GiB\n"), "{text}");
        assert!(
            text.ends_with(
                "Cgroup Controllers:\n SUBSYSTEM   HIERARCHY   CGROUPS   ENABLED   VERSION\n memory      7           31        1         v1\n"
            ),
            "{text}"
        );
    }
}
