//! `restore`: a container from the files of a checkpoint.

use super::checkpoint::{
    AUTO_DEDUP, EMPTY_NS, EXT_UNIX_SK, FILE_LOCKS, IMAGE_PATH, LAZY_PAGES, MANAGE_CGROUPS,
    SHELL_JOB, TCP_ESTABLISHED, WORK_PATH, image_path, options,
};
use super::*;
use crate::args::{Order, switch};
use crate::forward;
use barque_runtime::lifecycle::RestoreRequest;

pub(super) const COMMAND: Command = Command {
    name: "restore",
    usage: "<container-id>",
    about: "restore a container from a previous checkpoint (with criu)",
    details: "Needs CRIU 4.1 or newer, and the bundle that the container was created from.",
    flags: &[
        CONSOLE_SOCKET,
        IMAGE_PATH,
        WORK_PATH,
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        FILE_LOCKS,
        MANAGE_CGROUPS,
        BUNDLE,
        switch("detach", "d", "detach from the container's process"),
        PID_FILE,
        switch(
            "no-subreaper",
            "",
            "accepted for compatibility: nothing of ours waits for orphans",
        ),
        switch(
            "no-pivot",
            "",
            "accepted for compatibility: criu decides how the root is entered",
        ),
        EMPTY_NS,
        AUTO_DEDUP,
        LAZY_PAGES,
        value(
            "lsm-profile",
            "",
            "TYPE:LABEL",
            "label of a security module in place of the checkpoint's",
        ),
        value(
            "lsm-mount-context",
            "",
            "CONTEXT",
            "mount context in place of the checkpoint's",
        ),
    ],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    if call.globals.systemd {
        return Err(Failure::usage(
            "a restored container cannot be a unit of systemd yet: restore it without --systemd-cgroup",
        ));
    }
    let args = call.args;
    let detached = args.has("detach");
    let (image, bundle) = (image_path(args), bundle(args)?);
    let streams = streams();
    let socket = args.last("console-socket");
    let text = |flag| args.last(flag).filter(|text| !text.is_empty());
    let mut restored = call.globals.home.restore(RestoreRequest {
        id: id(call),
        bundle: &bundle,
        criu: options(call, &image)?,
        check: &|terminal| check_console(terminal, detached, socket).map_err(|f| f.message),
        stdio: own_streams(&streams),
        lsm_profile: text("lsm-profile"),
        lsm_mount_context: text("lsm-mount-context"),
    })?;
    warn_all(&restored.warnings);
    let console = restored.running.console.take();
    let (pid, pidfd) = (restored.running.pid, restored.running.pidfd);
    if let Err(failure) = announce(args, pid, pidfd.as_fd(), console.as_ref()) {
        // Nobody would know of it.
        let _ = restored.container.delete(true);
        return Err(failure);
    }
    if detached {
        return Ok(0);
    }
    // Not before: CRIU would inherit it.
    let signals = forward::Signals::block()?;
    let code = match console.filter(|_| socket.is_none()) {
        Some(master) => {
            console::resize(&master);
            console::serve(&master, &pidfd, &signals)
        }
        None => forward::wait(&pidfd, &signals),
    }?;
    warn_all(&restored.container.delete(true)?);
    Ok(code)
}
