//! Against a server that does what registries should not: broken connections, lies, garbage, loops.

mod common;

use barque_registry::{Client, Config, Error, Proxies, Retry, Timeouts};
use barque_types::oci::media_type;
use barque_types::reference::Reference;
use common::fake::{Reply, Request, Server};
use common::{client, client_with_auth, config, descriptor, digest, manifest, noise, reference};
use std::io::Read;
use std::time::{Duration, Instant};

fn app(server: &Server) -> Reference {
    reference(&format!("{}/app:1", server.host()))
}

/// Reads a blob to its end.
fn read(client: &Client, reference: &Reference, blob: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let mut reader = client.blob(reference, &descriptor("", blob))?;
    match reader.read_to_end(&mut out) {
        Ok(_) => Ok(out),
        Err(error) => Err(Error::from_io(&error)
            .expect("not a registry's error")
            .clone()),
    }
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let blob = noise(1_000_000);
    let server = Server::start({
        let blob = blob.clone();
        move |request, before| match (before, request.range()) {
            (0, None) => Reply::Cut(200, Vec::new(), blob.clone(), 300_000),
            (1, Some(from)) => {
                let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                Reply::Cut(
                    206,
                    vec![("content-range", range)],
                    blob[from..].to_vec(),
                    200_000,
                )
            }
            (_, Some(from)) => Reply::range(&blob, from),
            _ => Reply::status(500),
        }
    });
    assert!(read(&client(), &app(&server), &blob).unwrap() == blob);
    let ranges: Vec<_> = server.seen().iter().map(Request::range).collect();
    assert_eq!(ranges, [None, Some(300_000), Some(500_000)]);
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let blob = noise(500_000);
    let server = Server::start({
        let blob = blob.clone();
        move |_, before| match before {
            0 => Reply::Cut(200, Vec::new(), blob.clone(), 123_457),
            _ => Reply::Answer(200, Vec::new(), blob.clone()),
        }
    });
    assert!(read(&client(), &app(&server), &blob).unwrap() == blob);
}

#[test]
fn connections_that_break_at_once_are_given_up() {
    let blob = noise(500_000);
    let server = Server::start({
        let blob = blob.clone();
        move |request, _| match request.range() {
            None => Reply::Cut(200, Vec::new(), blob.clone(), 1000),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                Reply::Cut(
                    206,
                    vec![("content-range", range)],
                    blob[from..].to_vec(),
                    10,
                )
            }
        }
    });
    let error = read(&client(), &app(&server), &blob).unwrap_err();
    assert!(
        error.to_string().contains("the connection broke after"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn another_range_than_asked_for_is_refused() {
    let blob = noise(200_000);
    let server = Server::start({
        let blob = blob.clone();
        move |request, _| match request.range() {
            None => Reply::Cut(200, Vec::new(), blob.clone(), 100_000),
            Some(from) => Reply::range(&blob, from - 1),
        }
    });
    let error = read(&client(), &app(&server), &blob).unwrap_err();
    assert!(error.to_string().contains("another range"), "{error}");
}

#[test]
fn lengths_that_disagree_are_refused() {
    let blob = noise(10_000);
    let longer = noise(10_001);
    let server = Server::start({
        let longer = longer.clone();
        move |_, _| Reply::Answer(200, Vec::new(), longer.clone())
    });
    let error = read(&client(), &app(&server), &blob).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("10001 bytes long but the manifest says 10000"),
        "{error}"
    );
    // Without a length in the headers, it shows at the end.
    let server = Server::start(move |_, _| {
        let mut raw = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
        raw.extend_from_slice(&longer);
        Reply::Raw(raw)
    });
    let error = read(&client(), &app(&server), &blob).unwrap_err();
    assert!(
        error.to_string().contains("longer than the 10000 bytes"),
        "{error}"
    );
}

#[test]
fn passing_failures_are_tried_again_and_lasting_ones_given_up() {
    let bytes = manifest(b"{}", &[]);
    let server = Server::start({
        let bytes = bytes.clone();
        move |_, before| match before {
            0 => Reply::status(500),
            1 => Reply::status(503),
            2 => Reply::Cut(200, Vec::new(), bytes.clone(), 20),
            3 => Reply::Raw(Vec::new()),
            _ => Reply::body(media_type::OCI_MANIFEST, &bytes),
        }
    });
    assert_eq!(client().manifest(&app(&server)).unwrap().bytes, bytes);
    let server = Server::start(|_, _| {
        Reply::json(
            502,
            r#"{"errors":[{"code":"UNKNOWN","message":"disk full"}]}"#,
        )
    });
    let error = client().manifest(&app(&server)).unwrap_err();
    assert!(error.to_string().contains("answered 502"), "{error}");
    assert!(error.to_string().contains("unknown: disk full"), "{error}");
    assert_eq!(server.seen().len(), 5);
}

#[test]
fn garbage_is_one_clear_error() {
    let html = b"<!DOCTYPE html><h1>Welcome</h1>".to_vec();
    let whole = manifest(b"{}", &[]);
    let cut = whole[..whole.len() - 20].to_vec();
    let schema1 =
        br#"{"schemaVersion":1,"name":"x","tag":"1","fsLayers":[],"history":[]}"#.to_vec();
    let huge = vec![b' '; 4 * 1024 * 1024 + 1];
    let table = [
        (
            "text/html",
            html.clone(),
            "a web page instead of a manifest",
        ),
        (media_type::OCI_MANIFEST, cut, "not valid JSON"),
        (media_type::OCI_INDEX, whole, "does not have the form"),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            schema1,
            "schema 1",
        ),
        (media_type::OCI_MANIFEST, huge, "larger than 4194304 bytes"),
    ];
    for (content_type, body, want) in table {
        let server = Server::start(move |_, _| Reply::body(content_type, &body));
        let error = client().manifest(&app(&server)).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert!(
            error.contains(&format!("registry {}", server.host())),
            "{error}"
        );
        assert_eq!(server.seen().len(), 1, "garbage does not get better");
    }
    let server = Server::start(move |_, _| {
        Reply::Answer(
            404,
            vec![("content-type", "text/html".to_owned())],
            html.clone(),
        )
    });
    let error = client().manifest(&app(&server)).unwrap_err().to_string();
    assert!(error.contains("is it a registry"), "{error}");
    let server = Server::start(|_, _| Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()));
    let error = client().manifest(&app(&server)).unwrap_err().to_string();
    assert!(error.contains("cannot reach registry"), "{error}");
}

#[test]
fn digests_are_checked_over_the_bytes() {
    let bytes = manifest(b"{}", &[]);
    let other = digest(b"other");
    let server = Server::start({
        let bytes = bytes.clone();
        move |request, _| {
            let mut headers = vec![("content-type", media_type::OCI_MANIFEST.to_owned())];
            if request.target.ends_with(":1") || request.target.ends_with("/1") {
                headers.push(("docker-content-digest", other.to_string()));
            }
            Reply::Answer(200, headers, bytes.clone())
        }
    });
    for reference in [app(&server), app(&server).with_digest(other)] {
        let error = client().manifest(&reference).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert!(error.to_string().contains(&other.to_string()), "{error}");
    }
    let right = app(&server).with_digest(digest(&bytes));
    assert_eq!(client().manifest(&right).unwrap().bytes, bytes);
    // A small blob is checked here, too.
    let server = Server::start(|_, _| Reply::Answer(200, Vec::new(), b"evil".to_vec()));
    let error = client()
        .blob_bytes(&app(&server), &descriptor("", b"good"), 100)
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

/// A token server that accepts `user:pass` or anyone, and counts its tokens.
fn token_server(lifetime: u64) -> Server {
    Server::start(move |_, before| {
        Reply::json(
            200,
            &format!(r#"{{"token":"t{before}","expires_in":{lifetime}}}"#),
        )
    })
}

#[test]
fn tokens_are_fetched_once_and_used_for_all() {
    let tokens = token_server(300);
    let bytes = manifest(b"{}", &[]);
    let blob = noise(100_000);
    let server = Server::start({
        let realm = format!(
            "Bearer realm=\"http://{}/token\",service=\"reg\",scope=\"repository:app:pull\"",
            tokens.host()
        );
        let (bytes, blob) = (bytes.clone(), blob.clone());
        move |request, _| match request.header("authorization") {
            Some("Bearer t0") if request.target.contains("/blobs/") => {
                Reply::Answer(200, Vec::new(), blob.clone())
            }
            Some("Bearer t0") => Reply::body(media_type::OCI_MANIFEST, &bytes),
            _ => Reply::challenge(&realm),
        }
    });
    // base64("user:pass")
    let client = client_with_auth(&server.host(), r#"{"auth": "dXNlcjpwYXNz"}"#);
    client.manifest(&app(&server)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(read(&client, &app(&server), &blob).unwrap() == blob));
        }
    });
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?service=reg&scope=repository%3Aapp%3Apull&account=user"
    );
    assert_eq!(asked[0].header("authorization"), Some("Basic dXNlcjpwYXNz"));
    // The password went to the token server only.
    let basic = |request: &Request| {
        request
            .header("authorization")
            .is_some_and(|a| a.starts_with("Basic"))
    };
    assert!(!server.seen().iter().any(basic));
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn an_expired_token_is_replaced() {
    let tokens = token_server(300);
    let bytes = manifest(b"{}", &[]);
    let server = Server::start({
        let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host());
        move |request, before| match (before, request.header("authorization")) {
            (1, Some("Bearer t0")) | (3, Some("Bearer t1")) => {
                Reply::body(media_type::OCI_MANIFEST, &bytes)
            }
            _ => Reply::challenge(&realm),
        }
    });
    let client = client();
    client.manifest(&app(&server)).unwrap();
    client.manifest(&app(&server)).unwrap();
    assert_eq!(tokens.seen().len(), 2);
    assert_eq!(tokens.seen()[0].header("authorization"), None, "anonymous");
}

#[test]
fn identity_tokens_are_exchanged() {
    let tokens = Server::start(|request, _| {
        assert_eq!(request.method, "POST");
        Reply::json(200, r#"{"access_token":"fresh"}"#)
    });
    let bytes = manifest(b"{}", &[]);
    let server = Server::start({
        let realm = format!(
            "Bearer realm=\"http://{}/token\",service=\"a b\"",
            tokens.host()
        );
        move |request, _| match request.header("authorization") {
            Some("Bearer fresh") => Reply::body(media_type::OCI_MANIFEST, &bytes),
            _ => Reply::challenge(&realm),
        }
    });
    let client = client_with_auth(&server.host(), r#"{"identitytoken": "secret&x"}"#);
    client.manifest(&app(&server)).unwrap();
    let body = &tokens.seen()[0].body;
    assert!(
        body.contains("grant_type=refresh_token") && body.contains("refresh_token=secret%26x"),
        "{body}"
    );
    assert!(body.contains("service=a%20b"), "{body}");
}

#[test]
fn endless_challenges_end() {
    let tokens = token_server(300);
    let server = Server::start({
        let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host());
        move |_, _| Reply::challenge(&realm)
    });
    let error = client().manifest(&app(&server)).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(server.seen().len() <= 4 && tokens.seen().len() <= 4);
    // Basic, always refused.
    let server = Server::start(|_, _| Reply::challenge("Basic realm=x"));
    let client = client_with_auth(&server.host(), r#"{"auth": "dXNlcjpwYXNz"}"#);
    let error = client.manifest(&app(&server)).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(server.seen().len() <= 3);
    // No challenge that can be answered.
    let server = Server::start(|_, _| Reply::challenge("Negotiate"));
    let error = client.manifest(&app(&server)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("unauthorized: authentication required"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_token_server_that_says_no_or_nonsense() {
    let table = [
        (
            401,
            r#"{"details":"incorrect username or password"}"#,
            "incorrect username or password",
        ),
        (200, "<html>", "the answer is not a token"),
        (200, r#"{"token":""}"#, "holds no token"),
        (200, "{\"token\":\"a\\r\\nb\"}", "holds no token"),
        (404, "", "status 404"),
    ];
    for (status, body, want) in table {
        let tokens = Server::start(move |_, _| Reply::json(status, body));
        let realm = format!("Bearer realm=\"http://{}/token\"", tokens.host());
        let server = Server::start(move |_, _| Reply::challenge(&realm));
        let error = client().manifest(&app(&server)).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn credentials_do_not_follow_redirects_to_other_hosts() {
    let blob = noise(50_000);
    let elsewhere = Server::start({
        let blob = blob.clone();
        move |_, _| Reply::Answer(200, Vec::new(), blob.clone())
    });
    let server = Server::start({
        let target = format!("http://{}/storage?signature=x", elsewhere.host());
        move |request, _| match request.header("authorization") {
            None => Reply::challenge("Basic realm=x"),
            Some(_) if request.target.contains("/moved/") => {
                Reply::Answer(307, vec![("location", target.clone())], b"moved".to_vec())
            }
            Some(_) => Reply::Answer(302, vec![("location", "/moved/x".to_owned())], Vec::new()),
        }
    });
    let client = client_with_auth(&server.host(), r#"{"auth": "dXNlcjpwYXNz"}"#);
    assert!(read(&client, &app(&server), &blob).unwrap() == blob);
    let requests = elsewhere.seen();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None);
    assert_eq!(requests[0].target, "/storage?signature=x");
    // Within the host they do.
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn redirects_without_end_or_sense() {
    let server = Server::start(|_, _| {
        Reply::Answer(307, vec![("location", "/again".to_owned())], Vec::new())
    });
    let error = client().manifest(&app(&server)).unwrap_err();
    assert!(
        error.to_string().contains("more than 10 redirects"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 11);
    let server = Server::start(|_, _| Reply::status(302));
    let error = client().manifest(&app(&server)).unwrap_err();
    assert!(
        error.to_string().contains("without a usable Location"),
        "{error}"
    );
}

#[test]
fn limits_are_respected() {
    let bytes = manifest(b"{}", &[]);
    let limited = |after: &str| {
        let header = ("retry-after", after.to_owned());
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        Reply::Answer(429, vec![header], body.as_bytes().to_vec())
    };
    let server = Server::start(move |_, before| match before {
        0 => limited("1"),
        _ => Reply::body(media_type::OCI_MANIFEST, &bytes),
    });
    let started = Instant::now();
    client().manifest(&app(&server)).unwrap();
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "Retry-After was not respected"
    );
    // Longer than anyone wants to wait.
    let server = Server::start(move |_, _| limited("3600"));
    let error = client().manifest(&app(&server)).unwrap_err();
    assert!(matches!(error, Error::TooManyRequests { .. }), "{error}");
    assert!(
        error.to_string().contains("toomanyrequests: slow down"),
        "{error}"
    );
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn a_stalled_server_is_left() {
    let blob = noise(100_000);
    let server = Server::start({
        let blob = blob.clone();
        move |request, _| match request.range() {
            None => Reply::Stall(200, Vec::new(), blob.clone(), 70_000),
            Some(from) => Reply::range(&blob, from),
        }
    });
    let client = Client::new(Config {
        timeouts: Timeouts {
            read: Duration::from_millis(100),
            ..config().timeouts
        },
        ..config()
    })
    .unwrap();
    assert!(read(&client, &app(&server), &blob).unwrap() == blob);
}

#[test]
fn cancelling_ends_a_download_that_waits() {
    let blob = noise(100_000);
    let server = Server::start({
        let blob = blob.clone();
        move |_, _| Reply::Stall(200, Vec::new(), blob.clone(), 10)
    });
    // Without cancellation this would take as long as the test may: the read timeout is long.
    let client = Client::new(Config {
        timeouts: Timeouts {
            read: Duration::from_secs(600),
            ..config().timeouts
        },
        ..config()
    })
    .unwrap();
    std::thread::scope(|scope| {
        let download = scope.spawn(|| read(&client, &app(&server), &blob));
        server.wait_for(1);
        client.cancel();
        let error = download.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
    });
    let error = client.manifest(&app(&server)).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

#[test]
fn cancelling_ends_a_pause() {
    let server = Server::start(|_, _| Reply::status(500));
    let client = Client::new(Config {
        retry: Retry {
            first_pause: Duration::from_secs(600),
            longest_pause: Duration::from_secs(600),
            ..Retry::default()
        },
        ..config()
    })
    .unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.manifest(&app(&server)));
        server.wait_for(1);
        client.cancel();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
    });
}

#[test]
fn a_registry_that_is_not_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client()
        .manifest(&reference(&format!("{address}/app:1")))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("connection refused; is the registry running"),
        "{error}"
    );
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn proxies_carry_what_is_not_exempt() {
    let bytes = manifest(b"{}", &[]);
    let server = Server::start(move |_, _| Reply::body(media_type::OCI_MANIFEST, &bytes));
    let proxy = Server::start({
        let address = server.address();
        move |_, _| Reply::Tunnel(address)
    });
    let with = |no_proxy: &str| {
        Client::new(Config {
            insecure: vec!["registry.test:5000".to_owned()],
            proxies: Proxies {
                http: Some(format!("http://user:pw@{}", proxy.host())),
                https: None,
                no_proxy: Some(no_proxy.to_owned()),
            },
            retry: Retry {
                attempts: 1,
                ..Retry::default()
            },
            // No server answers here, so the lookup fails at once.
            timeouts: Timeouts {
                connect: Duration::from_millis(300),
                ..Timeouts::default()
            },
            ..config()
        })
        .unwrap()
    };
    let target = reference("registry.test:5000/app:1");
    with("other.test").manifest(&target).unwrap();
    let connect = &proxy.seen()[0];
    assert_eq!(
        (connect.method.as_str(), connect.target.as_str()),
        ("CONNECT", "registry.test:5000")
    );
    // base64("user:pw")
    assert_eq!(
        connect.header("proxy-authorization"),
        Some("Basic dXNlcjpwdw==")
    );
    with(".test").manifest(&target).unwrap_err();
    assert_eq!(proxy.seen().len(), 1);
}
