//! A terminal with a program on it, as a user at a keyboard would have it.

use crate::command::{Cmd, describe};
use crate::{poll, proc};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A session on a pseudo-terminal of 24 rows and 80 columns. The program is killed when dropped.
#[derive(Debug)]
pub struct Pty {
    master: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
    command: String,
}

impl Pty {
    /// Starts the command as the leader of a session whose controlling terminal is the new one.
    ///
    /// Making it so takes code between fork and exec, which only `setsid --ctty` of util-linux has
    /// without unsafe code here.
    #[track_caller]
    pub fn start(mut cmd: Cmd) -> Self {
        let (master, slave) = open();
        let inner = cmd.command();
        let text = describe(inner);
        let mut command = Command::new("/usr/bin/setsid");
        command
            .args(["--ctty", "--wait", "--"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear();
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let dup = || Stdio::from(slave.try_clone().expect("duplicate a terminal"));
        let child = command
            .stdin(dup())
            .stdout(dup())
            .stderr(dup())
            .spawn()
            .unwrap_or_else(|e| panic!("start {text}: {e}"));
        drop((command, slave));
        let master = File::from(master);
        let screen = read_along(master.try_clone().expect("duplicate a terminal"));
        Self {
            master,
            child,
            screen,
            command: text,
        }
    }

    /// Types.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        if let Err(e) = self.master.write_all(text.as_bytes()) {
            panic!("type to {}: {e}\n{}", self.command, self.screen());
        }
    }

    /// All that was written to the terminal, echo included.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("screen")).into_owned()
    }

    /// Waits until the screen contains `needle`.
    #[track_caller]
    pub fn expect(&self, needle: &str) {
        let found = poll::within(poll::PATIENCE, || {
            self.screen().contains(needle).then_some(())
        });
        if found.is_none() {
            let text = self.screen();
            panic!("{} never showed {needle:?}\nscreen: {text:?}", self.command);
        }
    }

    /// Changes the size; the kernel sends SIGWINCH to the foreground process group.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.master, rows, columns);
    }

    /// Does something while the program is stopped: it finds all of it at once when it goes on.
    #[track_caller]
    pub fn while_stopped(&mut self, act: impl FnOnce(&mut Self)) {
        // setsid(1) forks for the leader of a process group only, hence the program is our child.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).expect("stop the program");
        poll::until("the program is stopped", || {
            proc::status(pid.as_raw_nonzero().get(), "State").starts_with('T')
        });
        act(self);
        kill_process(pid, Signal::CONT).expect("continue the program");
    }

    /// Waits for the end of the program; its exit code.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        let status = poll::within(poll::PATIENCE, || self.child.try_wait().expect("wait"));
        match status {
            Some(status) => (status.code().unwrap_or(-1), self.screen()),
            None => panic!("{} does not end\nscreen: {:?}", self.command, self.screen()),
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).expect("open a pseudo-terminal");
    rustix::pty::unlockpt(&master).expect("unlock a pseudo-terminal");
    let name = rustix::pty::ptsname(&master, Vec::new()).expect("name of a pseudo-terminal");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(&*name, flags, Mode::empty()).expect("open the terminal");
    set_size(&master, 24, 80);
    (master, slave)
}

fn set_size(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(terminal, size).expect("set the size of a terminal");
}

/// The kernel's buffer is small: without a reader the program would block. EIO is the end.
fn read_along(mut master: File) -> Arc<Mutex<Vec<u8>>> {
    let screen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&screen);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = master.read(&mut buffer) {
            sink.lock().expect("screen").extend_from_slice(&buffer[..n]);
        }
    });
    screen
}
