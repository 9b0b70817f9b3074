//! What Docker's users type and rely on without thinking about it, compared with Docker 20.10 and the
//! CLI 28 side by side; each test holds one thing that once was different here.

use barque_testkit::image::{Image, Layer};
use barque_testkit::{Barque, poll};

/// Runs a script in a throw-away busybox container with these flags; its stdout.
#[track_caller]
fn inside(barque: &Barque, flags: &[&str], script: &str) -> String {
    let command = ["busybox", "sh", "-c", script];
    let args = ["run", "--rm"].iter().chain(flags).chain(&command);
    barque.output(args).ok().text()
}

#[test]
fn groups_are_added() {
    let barque = Barque::with_busybox();
    let flags = ["-u", "12:34", "--group-add", "staff", "--group-add", "77"];
    assert_eq!(inside(&barque, &flags, "id -G"), "34 50 77");
    assert_eq!(
        inside(&barque, &["--group-add", "77"], "id -u; id -G"),
        "0\n0 77"
    );
    let text = barque.fails(
        125,
        ["run", "--rm", "--group-add", "nosuch", "busybox", "true"],
    );
    assert!(text.contains("find group nosuch"), "{text}");

    // Every process of the container is in them, whoever runs it.
    let sleep = ["busybox", "sleep", "100000"];
    let run = ["run", "-d", "--name", "box", "--group-add", "77"];
    barque.ok(run.iter().chain(&sleep));
    assert_eq!(barque.ok(["exec", "box", "id", "-G"]), "0 77");
    assert_eq!(barque.ok(["exec", "-u", "5", "box", "id", "-G"]), "0 77");
}

#[test]
fn root_is_in_the_groups_that_list_it() {
    let barque = Barque::with_busybox();
    let groups = "root:x:0:root\nwheel:x:10:root,guest\n";
    let layer = Layer::builder().file("etc/group", 0o644, groups).build();
    barque.load(&Image::busybox().plus(layer), &["grouped"]);
    assert_eq!(barque.ok(["run", "--rm", "grouped", "id", "-G"]), "0 10");
}

#[test]
fn a_tmpfs_is_for_everybody() {
    let barque = Barque::with_busybox();
    let create = ["run", "--name", "box", "--tmpfs", "/new", "-u", "1000"];
    let script = "stat -c %a /new; touch /new/x && echo mine";
    barque.ok(create.iter().chain(&["busybox", "sh", "-c", script]));
    // At the second start too, when the directory below exists.
    let again = barque.ok(["start", "-a", "box"]);
    assert_eq!(again, "1777\nmine");
}

#[test]
fn a_read_only_root_is_read_only_everywhere() {
    let barque = Barque::with_busybox();
    let script = "for f in hosts hostname resolv.conf; do echo x 2>/dev/null >>/etc/$f && echo $f; done; true";
    assert_eq!(inside(&barque, &["--read-only"], script), "");
    assert_eq!(inside(&barque, &[], script), "hosts\nhostname\nresolv.conf");
}

#[test]
fn no_more_cpus_than_there_are() {
    let barque = Barque::with_busybox();
    for cpus in ["100000", "1000.5"] {
        let text = barque.fails(125, ["run", "--rm", "--cpus", cpus, "busybox", "true"]);
        assert!(text.contains("Range of CPUs is from 0.01 to"), "{text}");
    }
}

#[test]
fn a_paused_container_is_restarted_and_killed() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    let first = barque.pid("box");
    barque.ok(["pause", "box"]);
    // The same process thaws it, which looks for its cgroup, and starts it, which forks.
    barque.ok(["restart", "-t", "0", "box"]);
    assert_eq!(barque.status("box"), "running");
    assert_ne!(barque.pid("box"), first);
    barque.ok(["pause", "box"]);
    barque.ok(["kill", "box"]);
    assert_eq!(barque.ok(["wait", "box"]), "137");
}

#[test]
fn ps_shows_the_id_of_an_image_whose_name_moved_on() {
    let barque = Barque::with_busybox();
    barque.ok(["tag", "busybox", "moving"]);
    let id = barque.look_str("busybox", "/Id");
    barque.ok(["create", "--name", "box", "moving"]);
    let shown = || barque.ok(["ps", "-a", "--format", "{{.Image}}"]);
    assert_eq!(shown(), "moving");
    let layer = Layer::builder().file("new", 0o644, "").build();
    barque.load(&Image::busybox().plus(layer), &["moving"]);
    assert_eq!(shown(), id["sha256:".len()..][..12]);
    assert_eq!(
        barque.ok(["ps", "-a", "--no-trunc", "--format", "{{.Image}}"]),
        id
    );
}

#[test]
fn scripts_that_ask_for_an_address_get_none() {
    let barque = Barque::with_busybox();
    barque.ok(["create", "--name", "box", "busybox"]);
    for format in [
        "{{.NetworkSettings.IPAddress}}",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{.MacAddress}}{{end}}",
    ] {
        assert_eq!(barque.ok(["inspect", "-f", format, "box"]), "");
    }
    let ports = "{{json .NetworkSettings.Ports}}";
    assert_eq!(barque.ok(["inspect", "-f", ports, "box"]), "{}");
}

#[test]
fn ps_filters_of_what_is_not_there_yet() {
    let barque = Barque::with_busybox();
    barque.ok(["create", "--name", "box", "busybox"]);
    let names = |filter: &str| barque.ok(["ps", "-a", "-f", filter, "--format", "{{.Names}}"]);
    assert_eq!(names("health=none"), "box");
    for filter in ["health=unhealthy", "publish=80", "expose=80/tcp"] {
        assert_eq!(names(filter), "", "{filter}");
    }
    barque.fails(1, ["ps", "-f", "health=fine"]);
}

#[test]
fn an_exec_that_cannot_begin_is_126() {
    let barque = Barque::with_busybox();
    barque.sleeper("box");
    barque.fails(126, ["exec", "-u", "nosuch", "box", "true"]);
    barque.fails(126, ["exec", "-w", "/no/such", "box", "true"]);
    barque.fails(126, ["exec", "-w", "relative", "box", "true"]);
    barque.fails(1, ["exec", "nosuch", "true"]);
}

#[test]
fn flags_of_docker_that_come_later_say_so() {
    let barque = Barque::with_busybox();
    for (flag, why) in [
        ("--health-interval=5s", "health checks come"),
        ("--expose=80", "networks come"),
        ("--mac-address=1", "networks come"),
    ] {
        let text = barque.fails(125, ["run", flag, "busybox", "true"]);
        assert!(
            text.contains(flag.split('=').next().unwrap_or(flag)),
            "{text}"
        );
        assert!(text.contains(why), "{text}");
    }
    // And what asks for what is the case anyway is done.
    inside(&barque, &["--no-healthcheck"], "true");
}

#[test]
fn logs_with_details() {
    let barque = Barque::with_busybox();
    barque.ok(["run", "--name", "box", "busybox", "echo", "hi"]);
    // Trimmed by the kit, hence both lines' way.
    let text = barque.ok(["logs", "--details", "-t", "box"]);
    assert!(text.ends_with("Z  hi"), "{text:?}");
}

#[test]
fn on_failure_counts() {
    let barque = Barque::with_busybox();
    let run = ["run", "-d", "--name", "box", "--restart", "on-failure:2"];
    barque.ok(run.iter().chain(&["busybox", "sh", "-c", "echo x; exit 4"]));
    let over = || barque.look("box", "/RestartCount") == 2 && barque.status("box") == "exited";
    poll::until("two restarts", over);
    assert_eq!(barque.ok(["logs", "box"]), "x\nx\nx");
    assert_eq!(barque.look("box", "/State/ExitCode"), 4);
}

#[test]
fn diff_shows_what_the_user_did() {
    let barque = Barque::with_busybox();
    barque.ok(["run", "--name", "box", "busybox", "true"]);
    assert_eq!(barque.ok(["diff", "box"]), "");
}

#[test]
fn who_insists_gets_the_prompt_back() {
    let barque = Barque::with_busybox();
    let run = ["run", "--name", "box", "busybox", "sh", "-c"];
    let script = "trap '' INT; echo up; while :; do sleep 1; done";
    let mut running = barque
        .cmd(run.iter().chain(&[script]))
        .spawn_without_stdin();
    running.until_stdout("up");
    poll::until("the client gives up", || {
        running.signal(rustix::process::Signal::INT);
        running.ended()
    });
    running.wait().exits(1).says(&["got 3 SIGTERM/SIGINTs"]);
    // It is the client that went.
    assert_eq!(barque.status("box"), "running");
}

#[test]
fn ps_quotes_the_arguments_that_hold_spaces() {
    let barque = Barque::with_busybox();
    barque.ok(["create", "busybox", "sh", "-c", "echo a b", "c"]);
    let shown = barque.ok(["ps", "-a", "--no-trunc", "--format", "{{.Command}}"]);
    assert_eq!(shown, "\"sh -c 'echo a b' c\"");
}
