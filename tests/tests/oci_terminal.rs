//! The OCI runtime and terminals: served by itself, or given away over a socket.

use barque_testkit::{Oci, Pty};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

fn with_terminal(oci: &Oci, script: &str) -> String {
    let mut config = oci.config_for("demo", &["sh", "-c", script]);
    config["process"]["terminal"] = json!(true);
    oci.bundle("bundle", &config).to_string_lossy().into_owned()
}

#[test]
fn a_foreground_run_serves_the_terminal() {
    let oci = Oci::new();
    let script =
        "tty; stty size; echo ready; read word; echo \"got <$word>\"; read x; stty size; exit 5";
    let bundle = with_terminal(&oci, script);
    let mut pty = Pty::start(oci.cmd(["run", "-b", &bundle, "demo"]));
    pty.expect("/dev/pts/");
    pty.expect("24 80");
    pty.expect("ready");
    pty.send("hello\r");
    pty.expect("got <hello>");
    pty.while_stopped(|pty| {
        pty.resize(33, 99);
        pty.send("\r");
    });
    pty.expect("33 99");
    let (code, screen) = pty.finish();
    assert_eq!(code, 5, "{screen}");
    oci.assert_clean();
}

#[test]
fn a_foreground_exec_serves_a_terminal_of_its_own() {
    let oci = Oci::new();
    oci.detached(&["run", "-d", "demo"]);
    // Its size is there before the program is.
    let mut pty = Pty::start(oci.cmd(["exec", "--tty", "demo", "sh", "-c", "stty size; exec sh"]));
    pty.expect("24 80");
    pty.send("tty; exit 6\r");
    pty.expect("/dev/pts/");
    let (code, screen) = pty.finish();
    assert_eq!(code, 6, "{screen}");
    assert_eq!(oci.status("demo"), "running");
}

/// Receives the one descriptor that is sent to a socket, and the text beside it.
fn receive(listener: &UnixListener) -> (OwnedFd, String) {
    let (connection, _) = listener.accept().expect("the runtime connects");
    let mut text = [0u8; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let got = recvmsg(
        &connection,
        &mut parts,
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("recvmsg");
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let text = String::from_utf8_lossy(&text[..got.bytes]).into_owned();
    (fd.expect("a descriptor"), text)
}

#[test]
fn the_terminal_is_given_away_over_a_socket() {
    let oci = Oci::new();
    let bundle = with_terminal(&oci, "stty raw -echo; echo ready; exec cat");
    let path = oci.dir().join("console");
    let listener = UnixListener::bind(&path).expect("listen");
    let socket = path.to_string_lossy().into_owned();
    let talk = |master: &OwnedFd| {
        rustix::io::ioctl_fionbio(master, false).expect("blocking");
        let mut master = std::fs::File::from(master.try_clone().expect("dup"));
        let mut said = String::new();
        let mut buffer = [0u8; 256];
        while !said.contains("ready") {
            let n = master.read(&mut buffer).expect("read");
            said.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        master.write_all(b"there and back").expect("write");
        let mut back = [0u8; 14];
        let rest = said
            .split("ready")
            .nth(1)
            .unwrap_or_default()
            .trim_start()
            .len();
        assert_eq!(rest, 0, "{said}");
        loop {
            master.read_exact(&mut back[..1]).expect("read");
            if back[0] == b't' {
                break;
            }
        }
        master.read_exact(&mut back[1..]).expect("read");
        assert_eq!(&back, b"there and back");
    };
    // Held until the end: its hang-up would end the container's program.
    let first = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&listener));
        oci.detached(&[
            "run",
            "-d",
            "-b",
            &bundle,
            "--console-socket",
            &socket,
            "demo",
        ]);
        let (master, name) = receiver.join().expect("received");
        assert!(name.starts_with("/dev/p"), "{name}");
        talk(&master);
        master
    });
    // And the one of a detached exec.
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&listener));
        let script = "stty raw -echo; echo ready; exec cat";
        oci.detached(&[
            "exec",
            "-d",
            "-t",
            "--console-socket",
            &socket,
            "demo",
            "sh",
            "-c",
            script,
        ]);
        talk(&receiver.join().expect("received").0);
    });
    drop(first);
    oci.ok(["delete", "--force", "demo"]);
    oci.assert_clean();
}

#[test]
fn preserved_descriptors_keep_their_numbers() {
    let oci = Oci::new();
    let config = oci.config_for(
        "demo",
        &[
            "sh",
            "-c",
            "cat <&3; ls /proc/self/fd | wc -l; echo $LISTEN_FDS",
        ],
    );
    oci.bundle("bundle", &config);
    let file = oci.dir().join("words");
    std::fs::write(&file, "inherited\n").expect("write");
    let root = oci.root();
    let run = |extra: &str| {
        let script = format!(
            "exec 3<{} 4</dev/null; exec env {extra} {} oci --root {} run {} demo",
            file.display(),
            barque_testkit::barque_binary().display(),
            root.display(),
            if extra.is_empty() {
                "--preserve-fds 2"
            } else {
                ""
            },
        );
        let output = barque_testkit::Cmd::new("/bin/sh")
            .args(["-c", &script])
            .cwd(&oci.dir().join("bundle"))
            .output()
            .ok()
            .quiet();
        output.lines()
    };
    // 0 to 4, and the one that ls opens.
    assert_eq!(run(""), ["inherited", "6"]);
    // 0 to 3.
    assert_eq!(run("LISTEN_FDS=1"), ["inherited", "5", "1"]);
    oci.assert_clean();
}
