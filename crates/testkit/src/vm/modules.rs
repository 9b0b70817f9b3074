//! Kernel modules and what they depend on, from `modules.dep` (modules.dep(5)).

use std::path::{Path, PathBuf};

/// The modules of one kernel.
pub(super) struct Modules {
    directory: PathBuf,
    dependencies: String,
    builtin: String,
}

impl Modules {
    pub(super) fn of(release: &str) -> Self {
        let directory = Path::new("/lib/modules").join(release);
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path)
                .unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
        };
        Self {
            dependencies: read("modules.dep"),
            builtin: read("modules.builtin"),
            directory,
        }
    }

    /// The files of the modules in the order in which they can be loaded; what is built into the
    /// kernel is left out. Panics for a module that the kernel does not have.
    pub(super) fn in_order(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut ordered: Vec<PathBuf> = Vec::new();
        for name in names {
            if self.builtin.lines().any(|line| is(line, name)) {
                continue;
            }
            let line = self
                .dependencies
                .lines()
                .find(|line| line.split_once(':').is_some_and(|(path, _)| is(path, name)));
            let (path, needed) = line
                .and_then(|line| line.split_once(':'))
                .unwrap_or_else(|| panic!("{} has no module {name}", self.directory.display()));
            // What is needed first stands last.
            let needed = needed.split_ascii_whitespace().rev();
            for path in needed.chain([path]) {
                let path = self.directory.join(path);
                if !ordered.contains(&path) {
                    ordered.push(path);
                }
            }
        }
        ordered
    }
}

/// Whether the path is that of the module; `-` and `_` are the same in module names.
fn is(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split('.').next().unwrap_or(file);
    stem.replace('-', "_") == name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_modules_are_loaded_first() {
        let modules = Modules {
            directory: "/m".into(),
            dependencies: "k/a-b.ko: k/c.ko k/d.ko\nk/c.ko: k/d.ko\nk/d.ko:\n".into(),
            builtin: "k/ext4.ko\n".into(),
        };
        let expected = ["/m/k/d.ko", "/m/k/c.ko", "/m/k/a-b.ko"].map(PathBuf::from);
        assert_eq!(modules.in_order(&["ext4", "a_b", "c"]), expected);
    }
}
