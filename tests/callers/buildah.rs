//! buildah 1.28: `RUN` of a build, and `buildah run`.

use crate::machine::{IMAGE, Machine, Release};
use crate::on_a_terminal;
use barque_testkit::Cmd;

struct Buildah(Machine);

impl Buildah {
    fn buildah(&self, args: &[&str]) -> Cmd {
        self.0
            .cmd(["buildah", "--runroot=/run/bd", "--storage-driver=overlay"])
            .args([format!("--root={}", self.0.name("buildah"))])
            .args(args)
    }
}

#[test]
fn buildah_builds_and_runs() {
    let buildah = Buildah(Machine::new(Release::Twelve));
    let (runtime, context) = (buildah.0.name("barque-oci"), buildah.0.name("context"));
    std::fs::create_dir(&context).expect("make the context");
    let archive = format!("docker-archive:{}", buildah.0.name("image.tar"));
    buildah
        .buildah(&["pull", "--quiet", &archive])
        .output()
        .ok();
    let file = format!(
        "FROM {IMAGE}\nRUN echo made > /made && id -u >> /made\nRUN cat /made /proc/1/comm\n"
    );
    std::fs::write(buildah.0.path("context/Containerfile"), file).expect("write the Containerfile");
    let args = [
        "build",
        "--runtime",
        &runtime,
        "--tag",
        "localhost/built",
        &context,
    ];
    let output = buildah.buildah(&args).output().ok();
    assert!(output.text().contains("made\n0\n"), "{output}");
    let failing = format!("FROM {IMAGE}\nRUN exit 3\n");
    std::fs::write(buildah.0.path("context/Containerfile"), failing)
        .expect("write the Containerfile");
    let args = ["build", "--runtime", &runtime, &context];
    buildah.buildah(&args).output().exits(3);

    let container = buildah
        .buildah(&["from", "localhost/built"])
        .output()
        .ok()
        .text();
    let run = |flags: &[&str], command: &[&str]| {
        let head = ["run", "--runtime", &runtime];
        buildah
            .buildah(&head)
            .args(flags)
            .args([container.as_str()])
            .args(command)
    };
    assert_eq!(run(&[], &["cat", "/made"]).output().ok().text(), "made\n0");
    run(&[], &["sh", "-c", "exit 3"]).output().exits(3);
    run(&[], &["nope"])
        .output()
        .exits(1)
        .says(&["not found in $PATH"]);
    let bind = format!("{}:/bound", buildah.0.name(""));
    let flags = ["--volume", bind.as_str(), "--user=1000"];
    let output = run(&flags, &["sh", "-c", "id -u; ls /bound/image.tar"])
        .output()
        .ok();
    assert_eq!(output.text(), "1000\n/bound/image.tar");
    let (screen, code) = on_a_terminal(run(&["--terminal"], &["sh", "-c", "tty; exit 3"]));
    assert!(
        screen.contains("/dev/pts/0") && code == 3,
        "{code}: {screen}"
    );
    buildah.0.assert_clean(&[], "/run/barque-oci");
}
