//! A process in which a peer's commands are started and timed.
//!
//! Podman and crun refuse the two cgroup versions side by side; they are measured in a mount namespace
//! where the v2 tree is hidden. Entering one for each command would be measured too: hence a worker that
//! is in it already, and is told on stdin what to run.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The client's side.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// What a command did.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// From before the fork to after the wait.
    pub(super) took: Duration,
    pub(super) code: i64,
    pub(super) out: String,
    pub(super) err: String,
}

impl Worker {
    /// Starts one; `prepare` is a shell script that runs in its mount namespace first.
    pub(super) fn start(prepare: &str) -> Result<Self> {
        let script = format!("{prepare}\nexec \"$1\" bench --worker");
        let mut child = Command::new("/usr/bin/unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-c",
                &script,
                "sh",
            ])
            .arg(std::env::current_exe()?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a worker")?;
        let to = child.stdin.take().context("a worker's stdin")?;
        let from = BufReader::new(child.stdout.take().context("a worker's stdout")?);
        Ok(Self { child, to, from })
    }

    /// Runs commands, `parallel` at a time; the time of all, and what the last one said.
    pub(super) fn run(&mut self, commands: &[Vec<String>], parallel: usize) -> Result<Done> {
        let request = json!({"commands": commands, "parallel": parallel});
        writeln!(self.to, "{request}")?;
        self.to.flush()?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("a worker's answer")?;
        Ok(Done {
            took: Duration::from_nanos(answer["ns"].as_u64().unwrap_or(0)),
            code: answer["code"].as_i64().unwrap_or(-1),
            out: answer["out"].as_str().unwrap_or("").to_owned(),
            err: answer["err"].as_str().unwrap_or("").to_owned(),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The worker's side: one JSON request per line, one answer each.
pub(super) fn serve() -> Result<()> {
    for line in std::io::stdin().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let commands: Vec<Vec<String>> = serde_json::from_value(request["commands"].clone())?;
        let parallel = request["parallel"].as_u64().unwrap_or(1).max(1) as usize;
        let began = Instant::now();
        let last = if parallel == 1 {
            one_by_one(&commands)
        } else {
            several(&commands, parallel)
        };
        let ns = began.elapsed().as_nanos() as u64;
        let answer = match last {
            Ok((code, out, err)) => json!({"ns": ns, "code": code, "out": out, "err": err}),
            Err(e) => json!({"ns": ns, "code": -1, "out": "", "err": format!("{e:#}")}),
        };
        println!("{answer}");
    }
    Ok(())
}

type Said = (i32, String, String);

fn one_by_one(commands: &[Vec<String>]) -> Result<Said> {
    let mut last = (0, String::new(), String::new());
    for command in commands {
        last = one(command)?;
        if last.0 != 0 {
            break;
        }
    }
    Ok(last)
}

fn several(commands: &[Vec<String>], parallel: usize) -> Result<Said> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let Some(command) = commands.get(index) else {
                            return mine;
                        };
                        mine.push(one(command));
                    }
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_default();
        threads.into_iter().flat_map(join).collect::<Vec<_>>()
    });
    let mut last = (0, String::new(), String::new());
    for result in results {
        last = result?;
        if last.0 != 0 {
            break;
        }
    }
    Ok(last)
}

/// Output goes to files: a detached container may keep its caller's pipes, and would be waited for.
fn one(command: &[String]) -> Result<Said> {
    let Some((program, args)) = command.split_first() else {
        bail!("an empty command");
    };
    let (mut out, mut err) = (scratch()?, scratch()?);
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .status()
        .with_context(|| format!("run {program}"))?;
    Ok((
        status.code().unwrap_or(-1),
        text(&mut out)?,
        text(&mut err)?,
    ))
}

fn scratch() -> Result<std::fs::File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok(rustix::fs::memfd_create("xtask-bench", flags)?.into())
}

fn text(file: &mut std::fs::File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
