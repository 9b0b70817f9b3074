//! `exec`: one more process in a container.

use super::*;
use crate::args::switch;
use crate::forward;
use barque_runtime::lifecycle::ExecRequest;
use barque_types::spec::{Process, User};

pub(super) const COMMAND: Command = Command {
    name: "exec",
    usage: "<container-id> <command> [args...]  (or --process FILE <container-id>)",
    about: "execute a new process inside the container",
    details: "Options stand before the command, whose own options are not looked at. The exit code is the command's, or 255
when it could not be executed.

    barque oci exec -t demo sh
    barque oci exec --process process.json demo",
    flags: &[
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        PID_FILE,
        PRESERVE_FDS,
        value(
            "cwd",
            "",
            "DIR",
            "current working directory in the container",
        ),
        value("env", "e", "NAME=VALUE", "set environment variables"),
        switch("tty", "t", "allocate a pseudo-TTY"),
        value("user", "u", "UID[:GID]", "user of the process"),
        value("additional-gids", "g", "GID", "additional groups"),
        value("process", "p", "FILE", "path to the process.json"),
        switch("detach", "d", "detach from the process"),
        value("process-label", "", "LABEL", "SELinux label of the process"),
        value("apparmor", "", "PROFILE", "AppArmor profile of the process"),
        switch(
            "no-new-privs",
            "",
            "set the no new privileges value for the process",
        ),
        value(
            "cap",
            "c",
            "CAP",
            "add a capability to the bounding set for the process",
        ),
        value(
            "cgroup",
            "",
            "PATH",
            "run the process in a group below the container's",
        ),
        switch("ignore-paused", "", "allow exec in a paused container"),
        switch(
            "no-subreaper",
            "",
            "accepted for compatibility: nothing of ours waits for orphans",
        ),
    ],
    order: Order::UntilSecond,
    words: (1, usize::MAX),
    run,
};

/// What `exec` exits with when the process could not be made: its own codes are the process's.
const FAILED: u8 = 255;
/// SIGKILL, the same number on every architecture.
const KILL: i32 = 9;

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    execute(call).map_err(|failure| failure.of("exec failed").code(FAILED))
}

fn execute(call: &Call<'_>) -> Result<u8, Failure> {
    let args = call.args;
    let container = call.globals.home.open(id(call))?;
    let mut process = match args.last("process") {
        Some(file) => read_process(file)?,
        None => from_flags(container.spec()?.process.unwrap_or_default(), args)?,
    };
    let detached = args.has("detach");
    let socket = args.last("console-socket");
    check_console(process.terminal, detached, socket)?;
    // Whoever serves a terminal says how large it is; over a socket, that is the receiver.
    if process.terminal && !detached && socket.is_none() {
        process.console_size = console::own_size().or(process.console_size);
    }
    let streams = streams();
    let signals = match detached {
        true => None,
        false => Some(forward::Signals::block()?),
    };
    let session = container.exec(ExecRequest {
        process: &process,
        stdio: own_streams(&streams),
        preserve: borrowed(call.inherited),
        cgroup: args.last("cgroup"),
        ignore_paused: args.has("ignore-paused"),
    })?;
    warn_all(&session.warnings);
    let told = announce(
        args,
        session.pid,
        session.pidfd.as_fd(),
        session.console.as_ref(),
    );
    if let Err(failure) = told {
        // Nobody would know of it.
        let _ = barque_sys::signal::pidfd_send(session.pidfd.as_fd(), KILL);
        let _ = barque_sys::process::reap(session.pidfd.as_fd());
        return Err(failure);
    }
    let Some(signals) = &signals else {
        return Ok(0);
    };
    match &session.console {
        Some(master) if socket.is_none() => console::serve(master, &session.pidfd, signals),
        _ => forward::wait(&session.pidfd, signals),
    }
}

fn read_process(file: &str) -> Result<Process, Failure> {
    let text = std::fs::read(file).while_(|| format!("reading {file}"))?;
    serde_json::from_slice(&text).map_err(|e| Failure::usage(format!("{file}: {e}")))
}

/// The container's own process with what was said on the command line.
fn from_flags(mut process: Process, args: &Parsed) -> Result<Process, Failure> {
    process.args = args.positionals().get(1..).unwrap_or_default().to_vec();
    if process.args.is_empty() {
        return Err(Failure::usage("no command is given (nor --process)"));
    }
    if let Some(cwd) = args.last("cwd") {
        process.cwd = cwd.to_owned();
    }
    process.terminal = args.has("tty");
    process.console_size = None;
    process.env.extend(args.all("env").map(str::to_owned));
    if args.last("no-new-privs").is_some() {
        process.no_new_privileges = args.has("no-new-privs");
    }
    if let Some(profile) = args.last("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = args.last("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    for cap in args.all("cap") {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            if !set.iter().any(|known| known == cap) {
                set.push(cap.to_owned());
            }
        }
    }
    if let Some(user) = args.last("user") {
        (process.user.uid, process.user.gid) = user_of(user, &process.user)?;
    }
    for gid in args.all("additional-gids") {
        let gid = gid
            .parse()
            .map_err(|_| Failure::usage(format!("--additional-gids: {gid:?} is not a group id")))?;
        process.user.additional_gids.push(gid);
    }
    Ok(process)
}

/// `UID[:GID]`; a group that is not named stays.
fn user_of(text: &str, now: &User) -> Result<(u32, u32), Failure> {
    let number = |part: &str| {
        part.parse()
            .map_err(|_| Failure::usage(format!("--user: {text:?} is not UID[:GID], in numbers")))
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, number(gid)?)),
        None => Ok((number(text)?, now.gid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_change_the_containers_process() {
        let words: Vec<String> = "-u 5:6 -e B=2 --cap CAP_CHOWN -t --cwd /x -g 7 id ls -t"
            .split(' ')
            .map(str::to_owned)
            .collect();
        let parsed = args::parse(COMMAND.flags, &words, COMMAND.order).expect("parses");
        let base = Process {
            env: vec!["A=1".into()],
            cwd: "/".into(),
            ..Process::default()
        };
        let process = from_flags(base, &parsed).expect("a process");
        assert_eq!(process.args, ["ls", "-t"]);
        assert_eq!(process.env, ["A=1", "B=2"]);
        assert_eq!((process.user.uid, process.user.gid), (5, 6));
        assert_eq!(process.user.additional_gids, [7]);
        assert!(process.terminal && process.cwd == "/x");
        assert_eq!(process.capabilities.expect("caps").bounding, ["CAP_CHOWN"]);
    }
}
