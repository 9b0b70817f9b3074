//! `cargo xtask layout`: which functions the runtime's commands run, in which order, written down for the linker.
//!
//! The kernel maps 64 KB around every page of a program that is touched, so functions that run together should lie together.
//! The release binary is built with a map of its sections, the commands of a container's life are run one instruction at
//! a time (`crates/sys/examples/stepping.rs`), and `crates/barque/text.ld` is written from what was executed. To be repeated
//! when `bench oci` says that the peak memory of a create has grown: what the file does not know is not wrong, only far
//! away.

use crate::bench::make_bundle;
use crate::{cargo, must, programs, target, workspace};
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Steps through everything and writes the file.
pub(crate) fn run() -> Result<()> {
    let work = target().join("layout");
    if work.exists() {
        std::fs::remove_dir_all(&work).context("remove what an earlier run left")?;
    }
    std::fs::create_dir_all(&work)?;
    let map = work.join("map");
    build(&map)?;
    let addresses = Lives::new(&work)?.step()?;
    let map = std::fs::read_to_string(&map).context("read the linker's map")?;
    let (text, count) = script(&sections(&map), &addresses);
    if count == 0 {
        bail!("no address that was executed lies in a section of the linker's map");
    }
    let file = workspace().join("crates/barque/text.ld");
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    println!("{}: {count} sections, for the next build", file.display());
    Ok(())
}

fn build(map: &Path) -> Result<()> {
    let example = [
        "--release",
        "--package",
        "barque-sys",
        "--example",
        "stepping",
    ];
    must(cargo("build").args(example))?;
    let flag = format!("link-arg=-Wl,-Map={}", map.display());
    let bin = ["--release", "--package", "barque", "--bin", "barque"];
    // Linked again even if nothing changed, or there would be no map.
    let _ = std::fs::remove_file(programs("release").join("barque"));
    must(cargo("rustc").args(bin).args(["--", "-C", &flag]))
}

/// The commands whose functions are to lie together.
struct Lives {
    stepping: PathBuf,
    program: PathBuf,
    work: PathBuf,
    steps: PathBuf,
}

impl Lives {
    fn new(work: &Path) -> Result<Self> {
        make_bundle(&work.join("true"), &["true"])?;
        make_bundle(&work.join("sleep"), &["sleep", "100000"])?;
        Ok(Self {
            stepping: programs("release").join("examples/stepping"),
            program: programs("release").join("barque"),
            work: work.to_owned(),
            steps: work.join("steps"),
        })
    }

    /// The addresses in the order of their first execution.
    fn step(&self) -> Result<Vec<u64>> {
        // What a create needs comes first, because its peak is what is compared.
        self.one(&["create", "--bundle", &self.path("true"), "layout-true"])?;
        self.one(&["start", "layout-true"])?;
        self.one(&["delete", "--force", "layout-true"])?;
        self.one(&[
            "run",
            "--detach",
            "--bundle",
            &self.path("sleep"),
            "layout-sleep",
        ])?;
        self.one(&["state", "layout-sleep"])?;
        self.one(&["exec", "layout-sleep", "true"])?;
        self.one(&["kill", "layout-sleep", "KILL"])?;
        self.one(&["delete", "--force", "layout-sleep"])?;
        // The engine's own way: its monitor is what stays while a container runs.
        let (data, run) = (self.path("data"), self.path("run"));
        let rootfs = self.path("true/rootfs");
        let roots = ["--data-root", &data, "--run-root", &run];
        self.all(&[&roots[..], &["run", "--rm", "--rootfs", &rootfs, "true"]].concat())?;
        let text = std::fs::read_to_string(&self.steps)?;
        text.lines()
            .map(|line| u64::from_str_radix(line, 16).context("an address of `stepping`"))
            .collect()
    }

    fn path(&self, name: &str) -> String {
        self.work.join(name).display().to_string()
    }

    fn one(&self, args: &[&str]) -> Result<()> {
        let root = self.path("state");
        self.all(&[&["oci", "--root", &root], args].concat())
    }

    fn all(&self, args: &[&str]) -> Result<()> {
        println!("stepping through {}", args.join(" "));
        let mut command = Command::new(&self.stepping);
        command.arg(&self.steps).arg(&self.program).args(args);
        // Streams that nobody waits for: the container has them too.
        must(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }
}

/// An input section of the map: where it begins, how long it is, what it is called.
#[derive(Debug, PartialEq, Eq)]
struct Section<'a> {
    start: u64,
    size: u64,
    name: &'a str,
}

/// The functions' sections in a map as LLD writes it: `VMA LMA Size Align file:(.text.name)`, sorted.
fn sections(map: &str) -> Vec<Section<'_>> {
    let mut found: Vec<_> = map.lines().filter_map(section).collect();
    found.sort_by_key(|section| section.start);
    found
}

fn section(line: &str) -> Option<Section<'_>> {
    let (_, name) = line.rsplit_once(":(")?;
    let name = name.strip_suffix(')')?;
    // A bare `.text` is a whole C file or an archive's member: it would drag in more than was executed.
    let has_own_name = name.starts_with(".text.");
    let mut fields = line.split_ascii_whitespace();
    let start = u64::from_str_radix(fields.next()?, 16).ok()?;
    let size = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
    (has_own_name && size > 0).then_some(Section { start, size, name })
}

/// The linker script, and how many sections it places.
fn script(sections: &[Section<'_>], addresses: &[u64]) -> (String, usize) {
    let mut seen = HashSet::new();
    let mut lines = String::new();
    for address in addresses {
        let after = sections.partition_point(|section| section.start <= *address);
        let Some(section) = after.checked_sub(1).map(|at| &sections[at]) else {
            continue;
        };
        if *address >= section.start + section.size {
            continue;
        }
        let pattern = pattern(section.name);
        if !seen.contains(&pattern) {
            let _ = writeln!(lines, "    *({pattern})");
            seen.insert(pattern);
        }
    }
    let text = format!(
        "/* Written by `cargo xtask layout`: what a container's life executes, in that order. See build.rs. */\n\
         SECTIONS\n{{\n  .text.together :\n  {{\n{lines}  }}\n}}\nINSERT BEFORE .text;\n"
    );
    (text, seen.len())
}

/// The section's name with `*` for what another version of a crate or of the compiler would give another value: the
/// disambiguator of a crate (`Cs…_`, v0 mangling), the hash of a legacy name (`17h…E`), the number of a promoted private symbol
/// (`.llvm.…`).
fn pattern(name: &str) -> String {
    let (name, suffix) = match name.split_once(".llvm.") {
        Some((name, _)) => (name, ".llvm.*"),
        None => (name, ""),
    };
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("Cs") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let hash = from[2..]
            .bytes()
            .take_while(u8::is_ascii_alphanumeric)
            .count();
        if hash > 0 && from[2 + hash..].starts_with('_') {
            out.push_str("Cs*_");
            rest = &from[2 + hash + 1..];
        } else {
            out.push_str("Cs");
            rest = &from[2..];
        }
    }
    out.push_str(rest);
    if let Some(at) = out.find("17h")
        && out.len() == at + 20
        && out.ends_with('E')
    {
        out.replace_range(at + 3..at + 19, "*");
    }
    out + suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "\
             VMA              LMA     Size Align Out     In      Symbol
          100000           100000      200    16 .text
          100000           100000       40    16         /x/a.rcgu.o:(.text._RNvCs9fz_6barque4main)
          100000           100000       40     1                 _RNvCs9fz_6barque4main
          100040           100040       20    16         /x/liblibc.a(x.o):(.text)
          100060           100060       10    16         /x/b.o:(.text._ZN3abc17h0123456789abcdefE.llvm.77)
          100070           100070       10    16         /x/c.o:(.rodata.x)
";

    #[test]
    fn what_was_executed_is_placed_in_its_order() {
        let sections = sections(MAP);
        assert_eq!(sections.len(), 2, "{sections:?}");
        let (text, count) = script(
            &sections,
            &[0x100_065, 0x100_045, 0x100_010, 0x100_000, 0x200_000, 1],
        );
        let placed: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("    *"))
            .collect();
        let want = [
            "    *(.text._ZN3abc17h*E.llvm.*)",
            "    *(.text._RNvCs*_6barque4main)",
        ];
        assert_eq!((placed.as_slice(), count), (&want[..], 2));
    }

    #[test]
    fn what_changes_between_builds_is_a_star() {
        let table = [
            ("memcpy", "memcpy"),
            ("_RNvXs_CsAbc9_4coreCs", "_RNvXs_Cs*_4coreCs"),
            (
                "_RINvNtCs1_3std2ioCsz_6barqueE",
                "_RINvNtCs*_3std2ioCs*_6barqueE",
            ),
            ("_ZN17hat4fooE", "_ZN17hat4fooE"),
        ];
        for (name, want) in table {
            assert_eq!(pattern(name), want);
        }
    }
}
