//! What a private engine may have left on the machine: processes, cgroups, mounts, records.

use crate::proc;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What belongs to one private engine and nobody else.
pub(crate) struct Scope<'a> {
    /// Directory with both roots; part of every command line and mount of the engine.
    pub(crate) dir: &'a str,
    /// Name of the cgroup below which all its containers are.
    pub(crate) cgroup: &'a str,
    /// Processes of the test itself that carry `dir` in their command line.
    pub(crate) known: &'a [i32],
}

impl Scope<'_> {
    /// One line for each thing that is still there after a moment of grace: a monitor may be about to exit.
    pub(crate) fn check(&self) -> Vec<String> {
        let clean = crate::poll::within(Duration::from_secs(10), || {
            self.list().is_empty().then_some(())
        });
        match clean {
            Some(()) => Vec::new(),
            None => self.list(),
        }
    }

    fn list(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (pid, command) in self.processes() {
            found.push(format!("process {pid}: {command}"));
        }
        for dir in self.cgroups() {
            found.push(format!("cgroup {}", dir.display()));
        }
        for point in self.mounts() {
            found.push(format!("mount {}", point.display()));
        }
        found
    }

    /// Ends, removes and unmounts all of it, as far as possible.
    pub(crate) fn clear(&self) {
        for (pid, _) in self.processes() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = crate::poll::within(Duration::from_secs(5), || {
            self.thaw();
            self.processes().is_empty().then_some(())
        });
        for point in self.mounts().into_iter().rev() {
            let _ = rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH);
        }
        self.remove_cgroups();
    }

    /// Removes the (empty) cgroups, also the parent that the testkit asked for.
    pub(crate) fn remove_cgroups(&self) {
        for (_, root) in proc::cgroup_mounts() {
            let top = root.join(self.cgroup);
            for dir in subdirectories(&top).into_iter().rev() {
                let _ = std::fs::remove_dir(dir);
            }
            let _ = std::fs::remove_dir(top);
        }
    }

    fn processes(&self) -> Vec<(i32, String)> {
        let mut all = proc::with_command_line(self.dir);
        all.extend(proc::with_open_files("barque", self.dir));
        for pid in proc::in_cgroup(self.cgroup) {
            all.push((pid, format!("(in cgroup {})", self.cgroup)));
        }
        all.retain(|(pid, _)| !self.known.contains(pid) && *pid != std::process::id() as i32);
        all
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        proc::cgroup_mounts()
            .iter()
            .flat_map(|(_, root)| subdirectories(&root.join(self.cgroup)))
            .collect()
    }

    fn mounts(&self) -> Vec<PathBuf> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        text.lines()
            .filter(|line| line.contains(self.dir))
            .filter_map(|line| line.split(' ').nth(4))
            .map(PathBuf::from)
            .collect()
    }

    /// A frozen process dies only when it is thawed (v1 freezer).
    fn thaw(&self) {
        for dir in self.cgroups() {
            let _ = std::fs::write(dir.join("freezer.state"), "THAWED");
            let _ = std::fs::write(dir.join("cgroup.freeze"), "0");
        }
    }
}

/// All directories below `top`, parents first.
fn subdirectories(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(top) else {
        return found;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.path());
            found.extend(subdirectories(&entry.path()));
        }
    }
    found
}
