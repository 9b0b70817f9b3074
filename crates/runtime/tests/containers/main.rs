//! Real containers: a busybox root file system, real commands, and what they see.
//!
//! `create` needs a single-threaded caller, so every case runs in a process of its own: this binary
//! executes itself with the name of the case. A case that panics or exits with another code than 0
//! has failed; its process is the parent of its containers, which therefore die with it.

mod agent;
mod attributes;
mod basics;
mod bench;
mod cgroups;
mod criu;
mod cves;
mod escape;
mod exec;
mod hooks;
mod mount_options;
mod mount_places;
mod mountinfo;
mod mounts;
mod namespaces;
mod netdevices;
mod process;
mod security;
mod support;
mod users;
mod vm;

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A case: its name and what it does.
pub type Case = (&'static str, fn());

fn cases() -> Vec<Case> {
    [
        basics::CASES,
        mounts::CASES,
        mount_options::CASES,
        mount_places::CASES,
        users::CASES,
        process::CASES,
        attributes::CASES,
        agent::CASES,
        namespaces::CASES,
        netdevices::CASES,
        exec::CASES,
        hooks::CASES,
        escape::CASES,
        security::CASES,
        cves::CASES,
        cgroups::CASES,
        criu::CASES,
        vm::CASES,
        bench::CASES,
    ]
    .concat()
}

/// Runs one case in this process.
fn run_here(name: &str) -> ExitCode {
    match cases().iter().find(|(n, _)| *n == name) {
        Some((_, case)) => {
            case();
            ExitCode::SUCCESS
        }
        None => ExitCode::from(99),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &args[..]
        && flag == "--case"
    {
        return run_here(name);
    }
    if let [flag, path] = &args[..]
        && flag == "--break-out"
    {
        return escape::break_out(path);
    }
    if let [flag, a, b] = &args[..]
        && flag == "--exchange"
    {
        return security::exchange(a, b);
    }
    if let Some(code) = cves::mode(&args) {
        return code;
    }
    if args == ["--initramfs"] {
        return vm::return_to_the_initramfs();
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests make containers: run them as root"
    );
    let chosen = choose(&args);
    if args.iter().any(|a| a == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    run_all(&chosen)
}

/// The flags of libtest that a runner may pass on: `--list`, `--exact`, `--skip NAME`, filters.
fn choose(args: &[String]) -> Vec<Case> {
    let exact = args.iter().any(|a| a == "--exact");
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--skip" => skipped.extend(args.next()),
            "--test-threads" | "--format" | "--color" => drop(args.next()),
            flag if flag.starts_with('-') => {}
            _ => filters.push(arg),
        }
    }
    let matches = |name: &str, f: &String| {
        if exact {
            name == f
        } else {
            name.contains(f.as_str())
        }
    };
    cases()
        .into_iter()
        .filter(|(name, _)| {
            (filters.is_empty() || filters.iter().any(|f| matches(name, f)))
                && !skipped.iter().any(|f| matches(name, f))
        })
        .collect()
}

fn run_all(chosen: &[Case]) -> ExitCode {
    println!("\nrunning {} tests", chosen.len());
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((name, _)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !run_case(name) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let passed = chosen.len() - failed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_case(name: &str) -> bool {
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["--case", name])
        .stdin(Stdio::null())
        .output()
        .expect("running a case");
    if output.status.success() {
        print!(
            "test {name} ... ok\n{}",
            String::from_utf8_lossy(&output.stdout)
        );
        return true;
    }
    println!(
        "test {name} ... FAILED ({})\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
