//! `create`: a container that waits for `start`.

use super::*;
use crate::args::Order;
use barque_runtime::lifecycle::{CreateRequest, Made};

pub(super) const COMMAND: Command = Command {
    name: "create",
    usage: "<container-id>",
    about: "create a container, whose process waits for start",
    details: "Makes everything that the configuration of the bundle asks for, up to the program, which is executed by
`start`. Its standard streams are those of this command.",
    flags: &[
        BUNDLE,
        CONFIG,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        PID_FILE,
        PRESERVE_FDS,
        NO_PIVOT,
        NO_NEW_KEYRING,
    ],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let (made, _) = make(call, true)?;
    made.let_go()?;
    Ok(0)
}

/// Makes a container and announces it; also returns the master of its terminal when that stays here.
pub(super) fn make(call: &Call<'_>, detached: bool) -> Result<(Made, Option<OwnedFd>), Failure> {
    let args = call.args;
    let bundle = bundle(args)?;
    let streams = streams();
    let socket = args.last("console-socket");
    let mut made = call.globals.home.create(CreateRequest {
        id: id(call),
        bundle: &bundle,
        config: args.last("config").map(Path::new),
        stdio: own_streams(&streams),
        preserve: borrowed(call.inherited),
        extra_env: listen_env(call.inherited.len(), args)?,
        no_pivot: args.has("no-pivot"),
        no_new_keyring: args.has("no-new-keyring"),
        systemd: call.globals.systemd,
        check: &|terminal| check_console(terminal, detached, socket).map_err(|f| f.message),
    })?;
    warn_all(&made.warnings);
    let console = made.take_console();
    announce(args, made.pid(), made.pidfd()?.as_fd(), console.as_ref())?;
    Ok((made, console.filter(|_| socket.is_none())))
}

/// Which of the descriptors are listening sockets, for the program.
fn listen_env(inherited: usize, args: &Parsed) -> Result<Vec<String>, Failure> {
    let listening = inherited.saturating_sub(args.number("preserve-fds")?.unwrap_or(0));
    Ok(match listening {
        0 => Vec::new(),
        n => vec![format!("LISTEN_FDS={n}"), "LISTEN_PID=1".to_owned()],
    })
}
