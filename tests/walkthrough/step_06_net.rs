//! 6. Net: loopback only, the host's network, or another container's.

use barque_testkit::{Barque, poll, proc};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn without_a_network_there_is_only_loopback() {
    let barque = Barque::with_busybox();
    for mode in [&["--network", "none"][..], &[]] {
        let args = ["run", "--rm"]
            .iter()
            .chain(mode)
            .chain(&["busybox", "ls", "/sys/class/net"]);
        assert_eq!(barque.ok(args), "lo", "{mode:?}");
    }
    // It is up: a container can talk to itself.
    let script =
        "ip -o addr show lo | grep -c 127.0.0.1/8; ip -o link show lo | grep -c LOOPBACK,UP";
    assert_eq!(
        barque.ok(["run", "--rm", "busybox", "sh", "-c", script]),
        "1\n1"
    );
}

#[test]
fn the_hosts_network_can_be_shared() {
    let barque = Barque::with_busybox();
    let mut host: Vec<String> = std::fs::read_dir("/sys/class/net")
        .expect("list interfaces")
        .map(|entry| {
            entry
                .expect("an interface")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    host.sort();
    barque.ok([
        "run",
        "-d",
        "--name",
        "box",
        "--network",
        "host",
        "busybox",
        "sleep",
        "100000",
    ]);
    let inside = barque.inside("box", "ls /sys/class/net");
    assert_eq!(inside.lines().collect::<Vec<_>>(), host);
    assert_eq!(
        proc::namespace(barque.pid("box"), "net"),
        proc::own_namespace("net")
    );
}

#[test]
fn two_containers_can_share_one_network() {
    let barque = Barque::with_busybox();
    let id = barque.ok([
        "run",
        "-d",
        "--name",
        "server",
        "busybox",
        "httpd",
        "-f",
        "-p",
        "127.0.0.1:28080",
        "-h",
        "/etc",
    ]);
    let get = ["wget", "-q", "-O-", "http://127.0.0.1:28080/passwd"];
    let network = format!("container:{id}");
    poll::until("the server is heard from the other container", || {
        let args = ["run", "--rm", "--network", &network, "busybox"]
            .into_iter()
            .chain(get);
        let answer = barque.output(args);
        answer.code == 0 && answer.text().starts_with("root:")
    });
    // From a third one, and from the host, nobody is there.
    barque.fails(1, ["run", "--rm", "busybox"].into_iter().chain(get));
    let address = "127.0.0.1:28080".parse().expect("an address");
    assert!(TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_err());
}
