//! `pull` from a real registry, and from ones that want a token or lose the connection.

use barque_testkit::fake::{Answer, FakeRegistry, honest};
use barque_testkit::image::{Image, Layer, architecture};
use barque_testkit::registry::Wire;
use barque_testkit::{Barque, Compression, Dialect, Pty, Registry};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

fn layer(name: &str) -> Layer {
    Layer::builder().file(name, 0o644, name).build()
}

/// Bytes that no compression makes small, the same each time (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..length.div_ceil(8))
        .flat_map(|_| next().to_le_bytes())
        .take(length)
        .collect()
}

#[test]
fn every_dialect_and_compression() {
    let registry = Registry::start();
    for (tag, compression, dialect) in [
        ("docker-gzip", Compression::Gzip, Dialect::Docker),
        ("oci-gzip", Compression::Gzip, Dialect::Oci),
        ("oci-zstd", Compression::Zstd, Dialect::Oci),
        ("oci-plain", Compression::None, Dialect::Oci),
    ] {
        let barque = Barque::new();
        let image = Image::busybox().plus(layer(tag));
        let digest = registry.push("box", tag, &image, compression, dialect);
        let name = format!("{}:{tag}", registry.name("box"));
        let output = barque.output(["pull", &name]).ok();
        let lines = output.lines();
        assert!(
            output.text().contains(&format!("Digest: {digest}")),
            "{output}"
        );
        assert!(output.text().contains("Downloaded newer image"), "{output}");
        assert_eq!(lines.last(), Some(&name), "{output}");
        assert_eq!(barque.look_str(&name, "/Id"), image.id());
        assert_eq!(
            barque.ok(["run", "--rm", &name, "cat", &format!("/{tag}")]),
            tag
        );
        // By digest, which nothing can move; all is there already.
        let pinned = format!("{}@{digest}", registry.name("box"));
        barque.ok(["pull", &pinned]);
        assert_eq!(barque.look_str(&pinned, "/Id"), image.id());
        assert_eq!(barque.look(&name, "/RepoDigests"), json!([pinned]));
        let again = barque.ok(["pull", &name]);
        assert!(again.contains("up to date"), "{again}");
        assert_eq!(barque.ok(["pull", "-q", &name]), name);
    }
}

#[test]
fn an_index_is_resolved_to_this_machines_platform() {
    let registry = Registry::start();
    let barque = Barque::new();
    let other = match architecture() {
        "amd64" => "arm64",
        _ => "amd64",
    };
    let mut foreign = Image::busybox().plus(layer("foreign"));
    foreign.architecture = other.to_owned();
    let own = Image::busybox().plus(layer("own"));
    for (tag, dialect) in [("oci", Dialect::Oci), ("docker", Dialect::Docker)] {
        let images = [foreign.clone(), own.clone()];
        let digest = registry.push_index("box", tag, &images, dialect);
        let name = format!("{}:{tag}", registry.name("box"));
        let said = barque.ok(["pull", &name]);
        assert!(
            said.contains(&digest),
            "the digest of what the tag names: {said}"
        );
        assert_eq!(barque.look_str(&name, "/Architecture"), architecture());
        assert_eq!(barque.ok(["run", "--rm", &name, "cat", "/own"]), "own");
    }
    let name = format!("{}:oci", registry.name("box"));
    let platform = format!("linux/{other}");
    barque.ok(["pull", "--platform", &platform, &name]);
    assert_eq!(barque.look_str(&name, "/Architecture"), other);
    let text = barque.fails(1, ["pull", "--platform", "linux/s390x", &name]);
    assert!(text.contains("s390x"), "{text}");
}

#[test]
fn run_pulls_what_is_missing() {
    let registry = Registry::start();
    let barque = Barque::new();
    registry.push(
        "box",
        "latest",
        &Image::busybox(),
        Compression::Gzip,
        Dialect::Oci,
    );
    let name = registry.name("box");
    let output = barque.output(["run", "--rm", &name, "echo", "hello"]).ok();
    assert_eq!(output.text(), "hello", "progress goes to stderr");
    assert!(output.stderr.contains("Unable to find image"), "{output}");
    barque.output(["run", "--rm", &name, "true"]).ok().quiet();
    // With --pull always, a moved tag is followed.
    let moved = Image::busybox().plus(layer("moved"));
    registry.push("box", "latest", &moved, Compression::Gzip, Dialect::Oci);
    barque.fails(1, ["run", "--rm", &name, "cat", "/moved"]);
    let args = [
        "run", "--rm", "--pull", "always", "-q", &name, "cat", "/moved",
    ];
    assert_eq!(barque.ok(args), "moved");
}

#[test]
fn a_layer_that_is_there_is_not_fetched_again() {
    let base = Image::busybox().plus(layer("base"));
    let (one, two) = (base.clone().plus(layer("one")), base.plus(layer("two")));
    let wires = [
        Wire::new(&one, Compression::Gzip, Dialect::Oci),
        Wire::new(&two, Compression::Gzip, Dialect::Oci),
    ];
    let registry = FakeRegistry::start(move |request| {
        let which = usize::from(request.path.contains("/two/"));
        honest(&wires[which], request)
    });
    let barque = Barque::new();
    barque.ok(["pull", &registry.name("one")]);
    barque.ok(["pull", &registry.name("two")]);
    let fetched = registry.seen();
    let of = |repository: &str| {
        let path = format!("/v2/{repository}/blobs/");
        fetched
            .iter()
            .filter(|r| r.method == "GET" && r.path.starts_with(&path))
            .count()
    };
    // Three layers and a configuration; then one layer and a configuration.
    assert_eq!((of("one"), of("two")), (4, 2), "{fetched:#?}");
}

#[test]
fn basic_authentication_from_docker_s_config() {
    // `sailor:ahoy` by `htpasswd -nbB -C 4`.
    let registry = Registry::with_password_file(HTPASSWD);
    let barque = Barque::new();
    let name = registry.name("box");
    let text = barque.fails(1, ["pull", &name]);
    let lower = text.to_lowercase();
    assert!(
        lower.contains("auth") || lower.contains("login") || lower.contains("denied"),
        "{text}"
    );
    // `docker login` stores it so; base64 of `sailor:ahoy`.
    let config = json!({"auths": {registry.host(): {"auth": "c2FpbG9yOmFob3k="}}});
    let dir = barque.home().join(".docker");
    std::fs::create_dir(&dir).expect("make .docker");
    std::fs::write(dir.join("config.json"), config.to_string()).expect("write");
    let text = barque.fails(1, ["pull", &name]);
    assert!(
        text.contains("not found") || text.contains("unknown"),
        "let in: {text}"
    );
    // The same from --config; and a wrong password is told as such.
    let other = barque.dir().join("config");
    std::fs::create_dir(&other).expect("make a directory");
    let wrong = json!({"auths": {registry.host(): {"auth": "c2FpbG9yOndyb25n"}}});
    std::fs::write(other.join("config.json"), wrong.to_string()).expect("write");
    let text = barque.fails(1, ["--config", &other.to_string_lossy(), "pull", &name]);
    assert!(!text.contains("not found"), "{text}");
}

const HTPASSWD: &str = "sailor:$2y$05$ryN0NkDtogkBgWQA9JBeou3AxXej/J5elwC79qqJiUIu676Hlqzk6\n";

#[test]
fn bearer_tokens_are_fetched_and_used() {
    let wire = Wire::new(&Image::busybox(), Compression::Gzip, Dialect::Docker);
    let registry = FakeRegistry::start(move |request| {
        if request.path.starts_with("/token") {
            let anonymous = request.header("authorization").is_none();
            let right = request.path.contains("service=harbour")
                && request.path.contains("repository%3Abox%3Apull")
                || request.path.contains("repository:box:pull");
            return match anonymous && right {
                true => Answer::new(
                    200,
                    "application/json",
                    r#"{"token":"t0ken","expires_in":300}"#,
                ),
                false => Answer::new(400, "application/json", "{}"),
            };
        }
        if request.header("authorization") == Some("Bearer t0ken") {
            return honest(&wire, request);
        }
        let host = request.header("host").unwrap_or("").to_owned();
        let challenge = format!(
            "Bearer realm=\"http://{host}/token\",service=\"harbour\",scope=\"repository:box:pull\""
        );
        Answer::new(401, "application/json", "{}").header("WWW-Authenticate", challenge)
    });
    let barque = Barque::new();
    barque.ok(["pull", &registry.name("box")]);
    assert_eq!(
        barque.ok(["run", "--rm", &registry.name("box"), "echo", "in"]),
        "in"
    );
    let tokens = registry
        .seen()
        .iter()
        .filter(|r| r.path.starts_with("/token"))
        .count();
    assert_eq!(tokens, 1, "one token serves them all");
}

#[test]
fn a_credential_helper_is_missed_once_in_a_pull() {
    let wire = Wire::new(&Image::busybox(), Compression::Gzip, Dialect::Docker);
    let tokens = AtomicUsize::new(0);
    // The first token is refused: who is asking is looked up twice.
    let registry = FakeRegistry::start(move |request| {
        if request.path.starts_with("/token") {
            let token = tokens.fetch_add(1, Ordering::SeqCst);
            let text = json!({"token": format!("t{token}"), "expires_in": 300});
            return Answer::new(200, "application/json", text.to_string());
        }
        if request.header("authorization") == Some("Bearer t1") {
            return honest(&wire, request);
        }
        let host = request.header("host").unwrap_or("").to_owned();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"harbour\"");
        Answer::new(401, "application/json", "{}").header("WWW-Authenticate", challenge)
    });
    let barque = Barque::new();
    let dir = barque.home().join(".docker");
    std::fs::create_dir(&dir).expect("make .docker");
    let file = dir.join("config.json");
    std::fs::write(&file, r#"{"credsStore":"desktop"}"#).expect("write");
    let pulled = barque.output(["pull", &registry.name("box")]).ok();
    let seen = registry.seen();
    let asked = seen.iter().filter(|r| r.path.starts_with("/token"));
    assert_eq!(asked.count(), 2);
    let told = pulled.stderr.matches("credential helper").count();
    assert_eq!(told, 1, "{pulled}");
    assert!(pulled.stderr.contains(&*file.to_string_lossy()), "{pulled}");
}

#[test]
fn a_lost_connection_is_taken_up_again() {
    let big = Layer::builder()
        .file("noise", 0o644, noise(2_000_000))
        .build();
    let image = Image::busybox().plus(big);
    let wire = Wire::new(&image, Compression::Gzip, Dialect::Oci);
    let tries = AtomicUsize::new(0);
    let registry = FakeRegistry::start(move |request| {
        let answer = honest(&wire, request);
        if answer.body.len() > 1_000_000 && tries.fetch_add(1, Ordering::SeqCst) < 2 {
            return answer.cut_after(700_000);
        }
        answer
    });
    let barque = Barque::new();
    barque.ok(["pull", &registry.name("box")]);
    assert_eq!(
        barque.ok(["run", "--rm", &registry.name("box"), "wc", "-c", "/noise"]),
        "2000000 /noise"
    );
    let ranges = registry
        .seen()
        .iter()
        .filter(|r| r.header("range").is_some())
        .count();
    assert!(ranges >= 1, "it began anew instead of going on");
}

#[test]
fn two_pulls_of_one_image_at_once() {
    let registry = Registry::start();
    let mut image = Image::busybox();
    for n in 0..4 {
        let name = format!("noise{n}");
        image = image.plus(Layer::builder().file(&name, 0o644, noise(500_000)).build());
    }
    registry.push("box", "latest", &image, Compression::Gzip, Dialect::Oci);
    let name = registry.name("box");
    let barque = Barque::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| barque.ok(["pull", &name]));
        }
    });
    assert_eq!(barque.look_str(&name, "/Id"), image.id());
    let dirs = std::fs::read_dir(barque.data_root().join("overlay2")).expect("list");
    let diffs = dirs.filter(|entry| entry.as_ref().is_ok_and(|e| e.path().join("diff").is_dir()));
    // Four files of the same bytes under different names: four layers and busybox.
    assert_eq!(diffs.count(), 5);
}

#[test]
fn progress_bars_on_a_terminal() {
    let registry = Registry::start();
    registry.push(
        "box",
        "latest",
        &Image::busybox(),
        Compression::Gzip,
        Dialect::Oci,
    );
    let barque = Barque::new();
    let (code, screen) = Pty::start(barque.cmd(["pull", &registry.name("box")])).finish();
    assert_eq!(code, 0, "{screen}");
    assert!(
        screen.contains("Pull complete") && screen.contains('\x1b'),
        "{screen:?}"
    );
    let plain = barque.output(["pull", &registry.name("box")]).ok();
    assert!(!plain.text().contains('\x1b'), "{plain}");
}
