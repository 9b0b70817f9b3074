//! `checkpoint`: a running container's processes into files.

use super::*;
use crate::args::{Order, switch};
use barque_runtime::criu::{CriuOptions, ManageCgroups};
use barque_runtime::lifecycle::CheckpointRequest;
use rustix::fs::{CWD, Mode, OFlags, openat};

pub(super) const COMMAND: Command = Command {
    name: "checkpoint",
    usage: "<container-id>",
    about: "checkpoint a running container (with criu)",
    details: "Needs CRIU 4.1 or newer. The container is stopped afterwards, unless --leave-running is given.",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        value(
            "parent-path",
            "",
            "DIR",
            "path for previous criu image files, relative to --image-path",
        ),
        switch(
            "leave-running",
            "",
            "leave the process running after checkpointing",
        ),
        TCP_ESTABLISHED,
        switch("tcp-skip-in-flight", "", "skip in-flight tcp connections"),
        switch("link-remap", "", "allow unlinked hard links"),
        EXT_UNIX_SK,
        SHELL_JOB,
        LAZY_PAGES,
        value(
            "status-fd",
            "",
            "FD",
            "criu writes \\0 to this descriptor once lazy-pages is ready",
        ),
        value(
            "page-server",
            "",
            "ADDRESS:PORT",
            "ADDRESS:PORT of the page server",
        ),
        FILE_LOCKS,
        switch(
            "pre-dump",
            "",
            "dump the container's memory only, leave the container running after this",
        ),
        MANAGE_CGROUPS,
        EMPTY_NS,
        AUTO_DEDUP,
    ],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

pub(super) const IMAGE_PATH: Flag = value(
    "image-path",
    "",
    "DIR",
    "path of the criu image files (default: checkpoint)",
);
pub(super) const WORK_PATH: Flag = value(
    "work-path",
    "",
    "DIR",
    "path for work files and logs (default: that of the image)",
);
pub(super) const TCP_ESTABLISHED: Flag =
    switch("tcp-established", "", "allow open tcp connections");
pub(super) const EXT_UNIX_SK: Flag = switch("ext-unix-sk", "", "allow external unix sockets");
pub(super) const SHELL_JOB: Flag = switch("shell-job", "", "allow shell jobs");
pub(super) const LAZY_PAGES: Flag = switch(
    "lazy-pages",
    "",
    "use userfaultfd to lazily restore memory pages",
);
pub(super) const FILE_LOCKS: Flag = switch("file-locks", "", "handle file locks");
pub(super) const MANAGE_CGROUPS: Flag = value(
    "manage-cgroups-mode",
    "",
    "MODE",
    "cgroups mode: soft (default), full, strict or ignore",
);
pub(super) const EMPTY_NS: Flag = value(
    "empty-ns",
    "",
    "NAMESPACE",
    "create a namespace, but don't restore its properties (network always is such)",
);
pub(super) const AUTO_DEDUP: Flag = switch(
    "auto-dedup",
    "",
    "enable auto deduplication of memory images",
);

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let args = call.args;
    let image = image_path(args);
    let container = call.globals.home.open(id(call))?;
    let (leave_running, pre_dump) = (args.has("leave-running"), args.has("pre-dump"));
    container.checkpoint(CheckpointRequest {
        criu: options(call, &image)?,
        leave_running,
        pre_dump,
        parent_path: parent_path(args, &image)?,
        tcp_skip_in_flight: args.has("tcp-skip-in-flight"),
        link_remap: args.has("link-remap"),
        page_server: args.last("page-server").map(page_server).transpose()?,
        status_fd: status_fd(args)?,
    })?;
    if !leave_running && !pre_dump {
        warn_all(&container.delete(false)?);
    }
    Ok(0)
}

/// Where the image is: `./checkpoint` unless something else is said.
pub(super) fn image_path(args: &Parsed) -> PathBuf {
    let given = args.last("image-path").filter(|path| !path.is_empty());
    PathBuf::from(given.unwrap_or("checkpoint"))
}

/// What both commands take.
pub(super) fn options<'a>(call: &'a Call<'_>, image: &'a Path) -> Result<CriuOptions<'a>, Failure> {
    let args = call.args;
    for namespace in args.all("empty-ns") {
        if namespace != "network" {
            return Err(Failure::usage(format!(
                "--empty-ns: namespace {namespace:?} is not supported: network is"
            )));
        }
    }
    let mode = args.last("manage-cgroups-mode").filter(|m| !m.is_empty());
    let cgroups = mode
        .map(str::parse)
        .transpose()
        .map_err(|why: String| Failure::usage(format!("--manage-cgroups-mode: {why}")))?;
    Ok(CriuOptions {
        work_path: args
            .last("work-path")
            .filter(|p| !p.is_empty())
            .map(Path::new),
        tcp_established: args.has("tcp-established"),
        ext_unix_sk: args.has("ext-unix-sk"),
        shell_job: args.has("shell-job"),
        file_locks: args.has("file-locks"),
        auto_dedup: args.has("auto-dedup"),
        lazy_pages: args.has("lazy-pages"),
        cgroups: cgroups.unwrap_or(ManageCgroups::Soft),
        ..CriuOptions::new(&call.globals.criu, image)
    })
}

fn parent_path<'a>(args: &'a Parsed, image: &Path) -> Result<Option<&'a Path>, Failure> {
    let Some(parent) = args.last("parent-path").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = Path::new(parent);
    if path.is_absolute() {
        return Err(Failure::usage(
            "--parent-path must be relative to --image-path",
        ));
    }
    let real = image.join(path);
    if !real.is_dir() {
        return Err(Failure::usage(format!(
            "--parent-path {parent}: {} is not a directory",
            real.display()
        )));
    }
    Ok(Some(path))
}

fn page_server(text: &str) -> Result<(String, u16), Failure> {
    let bad = || Failure::usage(format!("--page-server {text:?}: ADDRESS:PORT is wanted"));
    let (address, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    match (address, port.parse()) {
        ("", _) | (_, Err(_) | Ok(0)) => Err(bad()),
        (address, Ok(port)) => Ok((address.to_owned(), port)),
    }
}

/// The descriptor that the caller gave, opened anew: ours alone, so that its end can be seen.
fn status_fd(args: &Parsed) -> Result<Option<OwnedFd>, Failure> {
    let Some(number) = args.number::<i32>("status-fd")?.filter(|fd| *fd >= 0) else {
        return Ok(None);
    };
    let path = format!("/proc/self/fd/{number}");
    openat(
        CWD,
        path.as_str(),
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map(Some)
    .while_(|| format!("--status-fd {number}: opening it for writing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_page_servers() {
        let of = |text| page_server(text).map_err(|f| f.message);
        assert_eq!(of("10.0.0.1:77"), Ok(("10.0.0.1".to_owned(), 77)));
        assert_eq!(of("[::1]:77"), Ok(("::1".to_owned(), 77)));
        for bad in ["10.0.0.1", ":77", "a:b", "a:0", ""] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
