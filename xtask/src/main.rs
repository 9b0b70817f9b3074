//! The habits of the house, as one program: `cargo xtask test | vm-test | lint | bench | callers | criu | dist | layout`.

mod bench;
mod callers;
mod criu;
mod dist;
mod elf;
mod layout;
mod lint;
mod test;
mod trixie;

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

  test  [ARGS…]     install what the tests need (Debian, as root), build once, run all tests;
                    ARGS go to `cargo test --workspace`
  vm-test           only the tests that boot another kernel: pure cgroup v2, v1, systemd as process 1
  lint              rustfmt, clippy, and the house rules; prints every violation
  bench [WHAT…]     compare with the engines that are installed: run exec pull images memory stop many
                    oci size;
                    --runs N, default all and 20
  callers           unpack the containerd, Docker and Podman of Debian 13 that the tests of the OCI
                    runtime use, and print where they are
  criu              unpack the CRIU that the tests of checkpoints use, and print where it is
  dist              the static release binary in target/dist, checked and measured
  layout            step through a container's life and write down, for the linker, which functions
                    are to lie side by side (crates/barque/text.ld)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let result = match args.first().map(String::as_str) {
        Some("test") => test::run(rest),
        Some("vm-test") => test::vm(),
        Some("lint") => lint::run(),
        Some("bench") => bench::run(rest),
        Some("callers") => callers::ready().map(|root| println!("{}", root.display())),
        Some("criu") => criu::ready().map(|program| println!("{}", program.display())),
        Some("dist") => dist::run().map(|_| ()),
        Some("layout") => layout::run(),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn workspace() -> PathBuf {
    barque_testkit::workspace().to_owned()
}

/// `target/`, wherever it is.
fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace().join(dir),
        None => workspace().join("target"),
    }
}

/// Where cargo puts the programs of a profile (`debug`, `release`): `.cargo/config.toml` names an
/// explicit target, so that `crt-static` stays off proc macros.
fn programs(profile: &str) -> PathBuf {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    target().join(triple).join(profile)
}

/// A cargo command in the workspace. The explicit target of the machine, whatever it is.
fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(workspace());
    if subcommand != "fmt" && subcommand != "metadata" {
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        command.args(["--target", &triple]);
    }
    command
}

/// Runs a command that must succeed.
fn must(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
