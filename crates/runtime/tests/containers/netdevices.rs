//! Interfaces of the host that become the container's. Here, the host is a network namespace that the
//! case has made for itself.

use crate::Case;
use crate::support::Bench;
use barque_sys::process::{Namespaces, unshare};
use barque_types::spec::{NamespaceKind, NetDevice};
use std::process::Command;

pub const CASES: &[Case] = &[
    ("netdevices::moved_with_name_and_addresses", moved),
    ("netdevices::in_a_user_namespace", in_a_user_namespace),
    ("netdevices::back_after_a_failure", back_after_a_failure),
    ("netdevices::nonsense_is_refused", nonsense),
];

fn ip(words: &str) -> String {
    let output = Command::new("ip")
        .args(words.split(' '))
        .output()
        .expect("ip");
    assert!(output.status.success(), "ip {words}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A network of our own, with a pair of interfaces in it.
fn network() {
    unshare(Namespaces::NETWORK).expect("unshare");
    ip("link set lo up");
    ip("link add eth7 type veth peer name peer7");
    ip("addr add 192.0.2.7/24 dev eth7");
    // The address is there at once; busybox's ip(8) has no `nodad`.
    std::fs::write("/proc/sys/net/ipv6/conf/eth7/accept_dad", "0").expect("accept_dad");
    ip("addr add 2001:db8::7/64 dev eth7");
    // busybox's ip(8) names the other end as the kernel does.
    let other = ip("-o link")
        .lines()
        .filter_map(|line| line.split(": ").nth(1)?.split('@').next())
        .find(|name| !["eth7", "lo"].contains(name))
        .expect("the other end")
        .to_owned();
    if other != "peer7" {
        ip(&format!("link set {other} name peer7"));
    }
    ip("link set peer7 up");
    ip("link set eth7 up");
}

fn ask_for(b: &mut Bench, outside: &str, inside: Option<&str>) {
    let name = inside.map(str::to_owned);
    b.linux()
        .net_devices
        .insert(outside.into(), NetDevice { name });
}

fn moved() {
    for (name, inside) in [(None, "eth7"), (Some("net0"), "net0"), (Some(""), "eth7")] {
        network();
        let mut b = Bench::new();
        ask_for(&mut b, "eth7", name);
        let o = b.sh("ip -o addr; ip -o link");
        for text in ["inet 192.0.2.7/24 ", "inet6 2001:db8::7/64 "] {
            assert!(o.out.contains(&format!("{inside}    {text}")), "{o:?}");
        }
        assert!(
            o.out.contains(&format!(": {inside}")) && o.out.contains("<BROADCAST,MULTICAST,UP"),
            "{o:?}"
        );
        assert!(!o.out.contains("peer7"), "{o:?}");
    }
}

fn in_a_user_namespace() {
    network();
    let mut b = Bench::new();
    b.with_user_namespace();
    ask_for(&mut b, "eth7", Some("lan"));
    assert!(
        b.sh("ip -o addr show lan")
            .out
            .contains("inet 192.0.2.7/24 ")
    );
}

fn back_after_a_failure() {
    network();
    let before = ip("-o addr show eth7");
    let mut b = Bench::new();
    ask_for(&mut b, "eth7", Some("lan"));
    b.bind(
        std::path::Path::new("/proc/self/ns/uts"),
        "/proc/self/root/x",
        &["bind"],
    );
    b.run(&["true"]).expect_err("a mount that fails");
    let after = ip("-o addr show eth7");
    for text in ["inet 192.0.2.7/24 ", "inet6 2001:db8::7/64 "] {
        assert!(
            before.contains(text) && after.contains(text),
            "{before}{after}"
        );
    }
    assert!(ip("-o link show eth7").contains("UP"));
    // One that is there, before one that is not.
    let mut b = Bench::new();
    ask_for(&mut b, "eth7", None);
    ask_for(&mut b, "eth8", None);
    let e = b.run(&["true"]).expect_err("no eth8").to_string();
    assert_eq!(
        e,
        "moving the interface \"eth8\" into the container: no such device"
    );
    assert!(ip("-o addr show eth7").contains("192.0.2.7/24"));
    // A name that the container has already.
    let mut b = Bench::new();
    ask_for(&mut b, "eth7", Some("lo"));
    let e = b.run(&["true"]).expect_err("a second lo").to_string();
    assert!(e.contains("has an interface of that name"), "{e}");
    assert!(ip("-o addr show eth7").contains("192.0.2.7/24"));
}

fn nonsense() {
    for (outside, inside) in [
        ("a/b", None),
        ("", None),
        ("eth0", Some("sixteen-letters.")),
        ("eth0", Some("a b")),
    ] {
        let mut b = Bench::new();
        ask_for(&mut b, outside, inside);
        let e = b.run(&["true"]).expect_err(outside).to_string();
        assert!(e.contains("is not the name of an interface"), "{e}");
    }
    let mut b = Bench::new();
    ask_for(&mut b, "eth0", Some("x"));
    ask_for(&mut b, "eth1", Some("x"));
    assert!(b.run(&["true"]).is_err());
    let mut b = Bench::new();
    b.share(NamespaceKind::Network);
    ask_for(&mut b, "eth0", None);
    let e = b.run(&["true"]).expect_err("the host's").to_string();
    assert_eq!(
        e,
        "linux.netDevices: need a network namespace that is not the host's"
    );
}
