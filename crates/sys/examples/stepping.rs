//! `stepping OUT PROGRAM ARGS…`: runs a program one instruction at a time, its children too, and appends to OUT the
//! addresses in PROGRAM's own file that were executed, each once, in the order of their first time.
//!
//! What `cargo xtask layout` asks for, to place the functions that one command needs side by side. An address is
//! relative to where the file is mapped, in hexadecimal, one a line. ptrace(2); the address of each step is what
//! `PTRACE_GET_SYSCALL_INFO` (Linux 5.3) says of any stop, on every architecture.

#![allow(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_EXITKILL;

/// Where a process has the file mapped, if it is its program.
#[derive(Clone, Copy)]
enum Program {
    Unknown,
    Other,
    At(u64),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [out, program, rest @ ..] = args.as_slice() else {
        eprintln!("usage: stepping OUT PROGRAM ARGS…");
        return ExitCode::from(2);
    };
    let size = std::fs::metadata(program).expect("the program").size();
    let mut command = Command::new(program);
    command.args(rest);
    // SAFETY: ptrace(2) is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let first = command.spawn().expect("start the program").id() as libc::pid_t;
    let (steps, code) = follow(first, size);
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(out)
        .expect("open the file for the addresses");
    for step in &steps {
        writeln!(file, "{step:x}").expect("write the addresses");
    }
    eprintln!("stepping: {} addresses, exit code {code}", steps.len());
    ExitCode::from(code)
}

/// Steps through everything until the first process has ended; what it leaves behind goes on by itself.
fn follow(first: libc::pid_t, size: u64) -> (Vec<u64>, u8) {
    let (mut order, mut seen) = (Vec::new(), HashSet::new());
    let mut processes = HashMap::from([(first, Program::Unknown)]);
    let (mut code, mut left) = (0, false);
    loop {
        let mut status = 0;
        // SAFETY: `status` lives across the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid < 0 {
            return (order, code);
        }
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            processes.remove(&pid);
            if pid == first {
                code = libc::WEXITSTATUS(status) as u8;
                let_go(processes.keys());
                left = true;
            }
            continue;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        if left && signal == libc::SIGSTOP {
            request(libc::PTRACE_DETACH, pid, 0);
            processes.remove(&pid);
            continue;
        }
        let known_before = processes.get(&pid).copied();
        if !matches!(known_before, Some(Program::At(_) | Program::Other)) {
            request(libc::PTRACE_SETOPTIONS, pid, OPTIONS);
        }
        let known = match known_before {
            Some(known @ (Program::At(_) | Program::Other)) if event != libc::PTRACE_EVENT_EXEC => {
                known
            }
            _ => locate(pid, size),
        };
        processes.insert(pid, known);
        match known {
            Program::At(base) => {
                let address = instruction_pointer(pid).wrapping_sub(base);
                if address < size * 2 && seen.insert(address) {
                    order.push(address);
                }
            }
            // What the container runs is not ours: it goes its own way.
            Program::Other if event == libc::PTRACE_EVENT_EXEC => {
                request(libc::PTRACE_DETACH, pid, 0);
                processes.remove(&pid);
                continue;
            }
            _ => {}
        }
        // A trap and the stop of a new child are ptrace's own, not for the process.
        let pass = match signal {
            libc::SIGTRAP => 0,
            libc::SIGSTOP if known_before.is_none() => 0,
            _ if event != 0 => 0,
            signal => signal,
        };
        request(libc::PTRACE_SINGLESTEP, pid, pass);
    }
}

/// A tracee can only be let go while it stands still.
fn let_go<'a>(processes: impl Iterator<Item = &'a libc::pid_t>) {
    for pid in processes {
        // SAFETY: plain numbers; they are our tracees, so the pids are not used again before we wait for them.
        unsafe {
            libc::kill(*pid, libc::SIGSTOP);
        }
    }
}

fn request(what: libc::c_uint, pid: libc::pid_t, data: libc::c_int) {
    // SAFETY: none of the requests used here reads or writes our memory. A process that has ended answers ESRCH.
    unsafe {
        libc::ptrace(what, pid, 0_usize, data as usize);
    }
}

/// Whether the process runs the file (one of the same size), and where that is.
fn locate(pid: libc::pid_t, size: u64) -> Program {
    match std::fs::metadata(format!("/proc/{pid}/exe")) {
        Ok(exe) if exe.size() == size => {}
        Ok(_) => return Program::Other,
        Err(_) => return Program::Unknown,
    }
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    // The file's first page: the lowest mapping with a name and offset 0.
    let base = maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let start = fields.next()?.split('-').next()?;
        let (_, offset, _, inode) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        (offset == "00000000" && inode != "0").then(|| u64::from_str_radix(start, 16).ok())?
    });
    base.map_or(Program::Unknown, Program::At)
}

/// Where the process stands still.
fn instruction_pointer(pid: libc::pid_t) -> u64 {
    // struct ptrace_syscall_info: op, padding, arch, instruction_pointer, stack_pointer, then a union.
    let mut info = [0_u64; 16];
    // SAFETY: the kernel writes no more than the size it is given into `info`, which lives across the call.
    unsafe {
        libc::ptrace(GET_SYSCALL_INFO, pid, size_of_val(&info), info.as_mut_ptr());
    }
    info[1]
}
