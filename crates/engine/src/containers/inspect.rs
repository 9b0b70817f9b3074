//! `inspect`: the record in Docker's shape.

use super::record::{Config as Record, Container};
use super::{Containers, lower};
use crate::error::Result;
use barque_types::container::{
    MountRequest, NamespaceMode, NetworkMode, SeccompMode, Source, UserNsMode,
};
use barque_types::docker::{
    Config, ContainerInspect, Endpoint, GraphDriver, HostConfig, LogConfigView, MountPoint,
    NetworkSettings, State, Status,
};
use barque_types::oci::Empty;
use std::collections::BTreeMap;

impl Containers<'_> {
    /// All about it; `size` measures its layers.
    pub fn inspect(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        let container = self.find(name)?;
        let snapshot = self.engine.store.snapshot(container.id())?;
        let mut view = view(&container);
        let dirs = [
            (
                "LowerDir",
                snapshot
                    .lower
                    .iter()
                    .map(|p| p.display().to_string())
                    .collect::<Vec<_>>()
                    .join(":"),
            ),
            ("MergedDir", snapshot.merged.display().to_string()),
            ("UpperDir", snapshot.upper.display().to_string()),
            ("WorkDir", snapshot.work.display().to_string()),
        ];
        view.graph_driver = GraphDriver {
            data: dirs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            name: "overlay2".to_owned(),
        };
        view.log_path = match view.host_config.log_config.kind.as_str() {
            "none" => String::new(),
            _ => self
                .engine
                .data
                .container_log(container.id())
                .display()
                .to_string(),
        };
        if size {
            let (own, all) = self.sizes(&container)?;
            (view.size_rw, view.size_root_fs) = (Some(own), Some(all));
        }
        Ok(view)
    }

    /// Bytes in the writable layer, and in all layers together.
    pub(super) fn sizes(&self, container: &Container) -> Result<(u64, u64)> {
        let own = self.engine.store.container_size(container.id())?;
        let image = match &container.config.image {
            // An image may have been removed by force from under its containers.
            Some(used) => self
                .engine
                .store
                .image(&used.id)
                .map_or(0, |image| image.size),
            None => 0,
        };
        Ok((own, own + image))
    }
}

fn view(container: &Container) -> ContainerInspect {
    let config = &container.config;
    let argv = config.process.argv();
    let path = |name: &str| container.dir.join(name).display().to_string();
    ContainerInspect {
        id: config.id.to_string(),
        created: config.created,
        path: argv.first().cloned().unwrap_or_default(),
        args: argv.into_iter().skip(1).collect(),
        state: state(container),
        image: config
            .image
            .as_ref()
            .map(|image| image.id.to_string())
            .unwrap_or_default(),
        resolv_conf_path: path("resolv.conf"),
        hostname_path: path("hostname"),
        hosts_path: path("hosts"),
        name: format!("/{}", config.name),
        restart_count: container.state.restart_count,
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        host_config: host_config(config),
        mounts: mount_points(config),
        config: inner_config(config),
        network_settings: NetworkSettings {
            sandbox_key: match &container.state.init {
                Some(init) => format!("/proc/{}/ns/net", init.pid),
                None => String::new(),
            },
            networks: BTreeMap::from([(
                network_mode(&config.request.network),
                Endpoint::default(),
            )]),
            ..NetworkSettings::default()
        },
        ..ContainerInspect::default()
    }
}

fn state(container: &Container) -> State {
    let state = &container.state;
    State {
        status: state.status,
        running: state.status.is_live(),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.init.as_ref().map_or(0, |init| init.pid),
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: state.started_at,
        finished_at: state.finished_at,
    }
}

/// Docker's word for a network mode.
pub(super) fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
    }
}

fn namespace_mode(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(id) => format!("container:{id}"),
        NamespaceMode::Shareable => "shareable".to_owned(),
        NamespaceMode::None => "none".to_owned(),
    }
}

fn non_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// Mounts as `ps` and `inspect` list them; tmpfs stand in `HostConfig.Tmpfs` only, as Docker's.
pub(super) fn mount_points(config: &Record) -> Vec<MountPoint> {
    let binds = config
        .request
        .mounts
        .iter()
        .filter_map(|mount| match mount {
            MountRequest::Bind(bind) => Some(bind),
            MountRequest::Tmpfs(_) => None,
        });
    binds
        .map(|bind| MountPoint {
            kind: "bind".to_owned(),
            source: bind.source.display().to_string(),
            destination: bind.target.display().to_string(),
            mode: bind.mode.clone(),
            rw: !bind.read_only,
            propagation: bind
                .propagation
                .clone()
                .unwrap_or_else(|| "rprivate".to_owned()),
        })
        .collect()
}

fn inner_config(record: &Record) -> Config {
    let (request, process) = (&record.request, &record.process);
    let set = |paths: &[String]| {
        (!paths.is_empty()).then(|| paths.iter().map(|path| (path.clone(), Empty {})).collect())
    };
    Config {
        hostname: process.hostname.clone(),
        domainname: request.domainname.clone().unwrap_or_default(),
        user: process.user.clone(),
        attach_stdin: request.attach.stdin,
        attach_stdout: request.attach.stdout,
        attach_stderr: request.attach.stderr,
        exposed_ports: set(&process.exposed_ports),
        tty: request.tty,
        open_stdin: request.open_stdin,
        stdin_once: request.stdin_once,
        env: lower::environment_without_host(record),
        cmd: (!process.cmd.is_empty()).then(|| process.cmd.clone()),
        image: match &request.source {
            Source::Image(name) => name.clone(),
            Source::Rootfs(path) => path.display().to_string(),
        },
        volumes: set(&process.volumes),
        working_dir: process.workdir.clone(),
        entrypoint: process.entrypoint.clone(),
        on_build: None,
        labels: process.labels.clone(),
        stop_signal: process.stop_signal.clone(),
        stop_timeout: request.stop_timeout,
    }
}

fn host_config(record: &Record) -> HostConfig {
    let request = &record.request;
    let resources = &request.resources;
    let memory = resources.memory.clone().unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let (masked, readonly) = lower::protected_paths(record);
    HostConfig {
        binds: binds(record),
        log_config: LogConfigView {
            kind: request
                .log
                .driver
                .clone()
                .unwrap_or_else(|| "json-file".to_owned()),
            config: super::logging::shown(&request.log),
        },
        network_mode: network_mode(&request.network),
        restart_policy: request.restart,
        auto_remove: request.auto_remove,
        cap_add: non_empty(&request.cap_add),
        cap_drop: non_empty(&request.cap_drop),
        cgroupns_mode: namespace_mode(&request.cgroupns, "private"),
        group_add: non_empty(&request.group_add),
        ipc_mode: namespace_mode(&request.ipc, "private"),
        oom_score_adj: request.oom_score_adj.unwrap_or(0),
        pid_mode: namespace_mode(&request.pid, ""),
        privileged: request.privileged,
        readonly_rootfs: request.read_only,
        security_opt: security_opt(record),
        tmpfs: tmpfs(record),
        uts_mode: namespace_mode(&request.uts, ""),
        userns_mode: match request.userns {
            UserNsMode::Host => String::new(),
            UserNsMode::Auto => "auto".to_owned(),
            UserNsMode::Mapped { .. } => "private".to_owned(),
        },
        shm_size: request.shm_size.unwrap_or(lower::DEFAULT_SHM),
        sysctls: (!request.sysctls.is_empty()).then(|| request.sysctls.clone()),
        runtime: "barque".to_owned(),
        cpu_shares: cpu.shares.unwrap_or(0),
        memory: memory.limit.unwrap_or(0),
        nano_cpus: request.nano_cpus,
        cgroup_parent: request.cgroup_parent.clone().unwrap_or_default(),
        blkio_weight: resources
            .block_io
            .as_ref()
            .and_then(|b| b.weight)
            .unwrap_or(0),
        blkio_device_read_bps: request.throttles.read_bps.clone(),
        blkio_device_write_bps: request.throttles.write_bps.clone(),
        blkio_device_read_iops: request.throttles.read_iops.clone(),
        blkio_device_write_iops: request.throttles.write_iops.clone(),
        // `--cpus` is shown as NanoCpus alone, as Docker does, though it became a quota.
        cpu_period: cpu.period.filter(|_| request.nano_cpus == 0).unwrap_or(0),
        cpu_quota: cpu.quota.filter(|_| request.nano_cpus == 0).unwrap_or(0),
        cpu_realtime_period: cpu.realtime_period.unwrap_or(0),
        cpu_realtime_runtime: cpu.realtime_runtime.unwrap_or(0),
        cpuset_cpus: cpu.cpus.unwrap_or_default(),
        cpuset_mems: cpu.mems.unwrap_or_default(),
        devices: request.devices.clone(),
        memory_reservation: memory.reservation.unwrap_or(0),
        memory_swap: memory.swap.unwrap_or(0),
        memory_swappiness: memory.swappiness,
        oom_kill_disable: memory.disable_oom_killer.unwrap_or(false),
        pids_limit: resources.pids.as_ref().map(|pids| pids.limit),
        ulimits: request.ulimits.clone(),
        masked_paths: (!masked.is_empty()).then_some(masked),
        readonly_paths: (!readonly.is_empty()).then_some(readonly),
        ..HostConfig::default()
    }
}

fn binds(record: &Record) -> Option<Vec<String>> {
    let binds: Vec<String> = mount_points(record)
        .iter()
        .map(|m| match m.mode.as_str() {
            "" => format!("{}:{}", m.source, m.destination),
            mode => format!("{}:{}:{mode}", m.source, m.destination),
        })
        .collect();
    non_empty(&binds)
}

fn tmpfs(record: &Record) -> Option<BTreeMap<String, String>> {
    let tmpfs: BTreeMap<_, _> = record
        .request
        .mounts
        .iter()
        .filter_map(|mount| match mount {
            MountRequest::Tmpfs(t) => Some((t.target.display().to_string(), t.options.join(","))),
            MountRequest::Bind(_) => None,
        })
        .collect();
    (!tmpfs.is_empty()).then_some(tmpfs)
}

fn security_opt(record: &Record) -> Option<Vec<String>> {
    let request = &record.request;
    let mut options = Vec::new();
    if request.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &request.seccomp {
        SeccompMode::Default => {}
        SeccompMode::Unconfined => options.push("seccomp=unconfined".to_owned()),
        SeccompMode::Profile(json) => options.push(format!("seccomp={json}")),
        SeccompMode::Filter(_) => options.push("seccomp=filter".to_owned()),
    }
    if request.systempaths_unconfined {
        options.push("systempaths=unconfined".to_owned());
    }
    non_empty(&options)
}
