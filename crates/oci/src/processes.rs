//! Processes as `ps` shows them, read from /proc (proc_pid_stat(5)): no helper program is needed.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is the same for all processes.
#[derive(Debug)]
pub(crate) struct Host {
    /// Clock ticks per second, of the times in /proc/PID/stat.
    ticks: u64,
    /// Bytes per page.
    page: u64,
    /// When the machine was started, seconds since 1970.
    boot: u64,
    /// Now, likewise.
    now: u64,
    /// Bytes of memory.
    memory: u64,
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

/// One process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    name: String,
    state: String,
    ppid: i32,
    pgrp: i32,
    session: i32,
    terminal: u32,
    foreground: i32,
    cpu_ticks: u64,
    nice: i64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
    uid: u32,
    gid: u32,
    command: String,
    locked: bool,
}

impl Host {
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let number = |text: &str, key: &str| -> u64 {
            text.lines()
                .find_map(|line| {
                    line.strip_prefix(key)?
                        .split_whitespace()
                        .next()?
                        .parse()
                        .ok()
                })
                .unwrap_or(0)
        };
        Self {
            ticks: rustix::param::clock_ticks_per_second(),
            page: rustix::param::page_size() as u64,
            boot: number(&read("/proc/stat"), "btime "),
            now: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            memory: number(&read("/proc/meminfo"), "MemTotal:") * 1024,
            users: names(&read("/etc/passwd")),
            groups: names(&read("/etc/group")),
        }
    }
}

/// `name:password:number:…` by number; the first of two names counts.
fn names(text: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(number)) = (fields.next(), fields.nth(1))
            && let Ok(number) = number.parse()
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

impl Process {
    /// Looks at one; `None` when it has ended.
    pub fn look(pid: i32) -> Option<Self> {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
        let status = String::from_utf8_lossy(&read("status")?).into_owned();
        let command = read("cmdline").unwrap_or_default();
        let mut process = Self::parse(&stat)?;
        let id = |key: &str| -> Option<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            // Real, effective, saved, file system.
            line.split_whitespace().nth(1)?.parse().ok()
        };
        process.uid = id("Uid:")?;
        process.gid = id("Gid:")?;
        process.locked = status
            .lines()
            .find_map(|line| line.strip_prefix("VmLck:"))
            .is_some_and(|value| !value.trim().starts_with("0 "));
        process.command = words(&command);
        Some(process)
    }

    /// `/proc/PID/stat`.
    fn parse(stat: &str) -> Option<Self> {
        // The name may hold blanks and parentheses: it ends at the last one.
        let (head, rest) = stat.rsplit_once(')')?;
        let (pid, name) = head.split_once('(')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Numbered as in the man page, where the state is 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |n: usize| -> Option<u64> { field(n)?.parse().ok() };
        let signed = |n: usize| -> Option<i64> { field(n)?.parse().ok() };
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state: field(3)?.to_owned(),
            ppid: signed(4)? as i32,
            pgrp: signed(5)? as i32,
            session: signed(6)? as i32,
            terminal: signed(7)? as u32,
            foreground: signed(8)? as i32,
            cpu_ticks: number(14)? + number(15)?,
            nice: signed(19)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
            ..Self::default()
        })
    }

    /// The command line, or the name in brackets of one that has none.
    fn command(&self) -> String {
        match self.command.as_str() {
            "" => format!("[{}]", self.name),
            command => command.to_owned(),
        }
    }

    fn cpu_seconds(&self, host: &Host) -> u64 {
        self.cpu_ticks / host.ticks.max(1)
    }

    fn elapsed(&self, host: &Host) -> u64 {
        host.now.saturating_sub(self.started(host))
    }

    fn started(&self, host: &Host) -> u64 {
        host.boot + self.start_ticks / host.ticks.max(1)
    }

    /// Share of one processor over its whole life, in thousandths.
    fn cpu_share(&self, host: &Host) -> u64 {
        let seconds = self.elapsed(host).max(1);
        self.cpu_ticks * 1000 / host.ticks.max(1) / seconds
    }

    /// Short, with what `ps` adds to the state.
    fn long_state(&self) -> String {
        let mut text = self.state.clone();
        let marks = [
            (self.nice < 0, '<'),
            (self.nice > 0, 'N'),
            (self.locked, 'L'),
            (self.session == self.pid, 's'),
            (self.threads > 1, 'l'),
            (self.foreground > 0 && self.foreground == self.pgrp, '+'),
        ];
        text.extend(marks.iter().filter(|(is, _)| *is).map(|(_, mark)| mark));
        text
    }

    /// `pts/0`, `tty1`, `?`.
    fn terminal(&self) -> String {
        // The kernel's new_encode_dev(): minor in bits 0-7 and 20-31, major in 8-19.
        let major = (self.terminal >> 8) & 0xfff;
        let minor = (self.terminal & 0xff) | ((self.terminal >> 12) & 0xf_ff00);
        match (major, minor) {
            (4, n @ 0..=63) => format!("tty{n}"),
            (4, n) => format!("ttyS{}", n - 64),
            (5, 1) => "console".to_owned(),
            (136..=143, n) => format!("pts/{}", (major - 136) * 256 + n),
            (204, n @ 64..) => format!("ttyAMA{}", n - 64),
            (229, n) => format!("hvc{n}"),
            _ => "?".to_owned(),
        }
    }
}

/// NUL-separated words with blanks between; what is not printable would harm the reader's terminal.
fn words(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw)
        .trim_end_matches('\0')
        .chars()
        .map(|c| match c {
            '\0' => ' ',
            c if c.is_control() => '?',
            c => c,
        })
        .collect()
}

/// `[DD-]HH:MM:SS`.
fn clock(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let text = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => text,
        days => format!("{days}-{text}"),
    }
}

/// `[[DD-]HH:]MM:SS`.
fn elapsed(seconds: u64) -> String {
    match seconds {
        0..3600 => format!("{:02}:{:02}", seconds / 60, seconds % 60),
        _ => clock(seconds),
    }
}

/// A name of at most eight characters, as ps cuts it.
fn short(name: &str) -> String {
    match name.char_indices().nth(8) {
        Some(_) => name.chars().take(7).chain(['+']).collect(),
        None => name.to_owned(),
    }
}

fn by_number(names: &BTreeMap<u32, String>, number: u32) -> String {
    names
        .get(&number)
        .map_or_else(|| number.to_string(), |name| short(name))
}

/// When it was started, in UTC: the time of the day, or the day.
fn start_time(process: &Process, host: &Host) -> String {
    let started = process.started(host);
    if host.now.saturating_sub(started) < 86_400 {
        let day = started % 86_400;
        return format!("{:02}:{:02}", day / 3600, day / 60 % 60);
    }
    let time = barque_types::time::Timestamp::from_unix_nanos(i128::from(started) * 1_000_000_000)
        .to_string();
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = time.get(5..7).and_then(|m| m.parse::<usize>().ok());
    match (
        month.and_then(|m| MONTHS.get(m.wrapping_sub(1))),
        time.get(8..10),
    ) {
        (Some(month), Some(day)) => format!("{month}{day}"),
        _ => time,
    }
}

/// A column of `ps`.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    head: String,
    width: usize,
    right: bool,
    cell: fn(&Process, &Host) -> String,
}

/// Names, header, least width, to the right, content.
type Row = (
    &'static [&'static str],
    &'static str,
    usize,
    bool,
    fn(&Process, &Host) -> String,
);

const COLUMNS: &[Row] = &[
    (&["pid", "tgid"], "PID", 7, true, |p, _| p.pid.to_string()),
    (&["ppid"], "PPID", 7, true, |p, _| p.ppid.to_string()),
    (&["pgid", "pgrp"], "PGID", 7, true, |p, _| {
        p.pgrp.to_string()
    }),
    (&["sid", "sess", "session"], "SID", 7, true, |p, _| {
        p.session.to_string()
    }),
    (&["uid", "euid"], "UID", 5, true, |p, _| p.uid.to_string()),
    (&["gid", "egid"], "GID", 5, true, |p, _| p.gid.to_string()),
    (&["user", "euser", "uname"], "USER", 8, false, |p, h| {
        by_number(&h.users, p.uid)
    }),
    (&["group", "egroup"], "GROUP", 8, false, |p, h| {
        by_number(&h.groups, p.gid)
    }),
    (&["comm", "ucmd", "ucomm"], "COMMAND", 15, false, |p, _| {
        p.name.clone()
    }),
    (&["args", "command"], "COMMAND", 27, false, |p, _| {
        p.command()
    }),
    (&["cmd"], "CMD", 27, false, |p, _| p.command()),
    (&["c"], "C", 2, true, |p, h| {
        (p.cpu_share(h) / 10).min(99).to_string()
    }),
    (&["pcpu", "%cpu"], "%CPU", 4, true, |p, h| {
        let share = p.cpu_share(h);
        format!("{}.{}", share / 10, share % 10)
    }),
    (&["pmem", "%mem"], "%MEM", 4, true, |p, h| {
        let share = p.resident_pages * h.page * 1000 / h.memory.max(1);
        format!("{}.{}", share / 10, share % 10)
    }),
    (&["rss", "rssize", "rsz"], "RSS", 5, true, |p, h| {
        (p.resident_pages * h.page / 1024).to_string()
    }),
    (&["vsz", "vsize"], "VSZ", 6, true, |p, _| {
        (p.virtual_bytes / 1024).to_string()
    }),
    // ps(1) heads the same column by the name that it is asked for.
    (&["tname"], "TTY", 8, false, |p, _| p.terminal()),
    (&["tty", "tt"], "TT", 8, false, |p, _| p.terminal()),
    (&["time", "cputime"], "TIME", 8, true, |p, h| {
        clock(p.cpu_seconds(h))
    }),
    (&["etime"], "ELAPSED", 11, true, |p, h| {
        elapsed(p.elapsed(h))
    }),
    (&["etimes"], "ELAPSED", 7, true, |p, h| {
        p.elapsed(h).to_string()
    }),
    (
        &["stime", "start", "start_time"],
        "STIME",
        5,
        true,
        start_time,
    ),
    (&["stat"], "STAT", 4, false, |p, _| p.long_state()),
    (&["state", "s"], "S", 1, false, |p, _| p.state.clone()),
    (&["nlwp", "thcount"], "NLWP", 4, true, |p, _| {
        p.threads.to_string()
    }),
    (&["ni", "nice"], "NI", 3, true, |p, _| p.nice.to_string()),
];

fn column(word: &str) -> Result<Column, String> {
    let (name, head) = match word.split_once('=') {
        Some((name, head)) => (name, Some(head)),
        None => (word, None),
    };
    let found = COLUMNS.iter().find(|(names, ..)| names.contains(&name));
    let Some((_, own, width, right, cell)) = found else {
        let known: Vec<&str> = COLUMNS.iter().map(|(names, ..)| names[0]).collect();
        return Err(format!(
            "{name:?} is not a column; known are {}",
            known.join(", ")
        ));
    };
    Ok(Column {
        head: head.unwrap_or(own).to_owned(),
        width: *width,
        right: *right,
        cell: *cell,
    })
}

fn columns(list: &str) -> Result<Vec<Column>, String> {
    let mut found: Vec<Column> = Vec::new();
    let mut rest = list;
    loop {
        let (names, head) = match rest.split_once('=') {
            Some((names, head)) => (names, Some(head)),
            None => (rest, None),
        };
        for name in names.split([',', ' ']).filter(|name| !name.is_empty()) {
            found.push(column(name)?);
        }
        let (Some(last), Some(head)) = (found.last_mut(), head) else {
            return Ok(found);
        };
        // A header of one's own may hold anything, and is therefore the last: `-o pid,args=THE COMMAND`; but none at
        // all may be followed by more: `-o pid=,args=`.
        let more = head.strip_prefix(',');
        more.map_or(head, |_| "").clone_into(&mut last.head);
        match more {
            Some(more) => rest = more,
            None => return Ok(found),
        }
    }
}

/// `ps -ef`.
const FULL: &str = "user=UID pid ppid c stime tname time cmd";
/// `ps aux`.
const USER: &str = "user pid %cpu %mem vsz rss tname stat start=START time command";
/// `ps -e`.
const BRIEF: &str = "pid tname time comm=CMD";

fn preset(words: &str) -> Result<Vec<Column>, String> {
    words.split(' ').map(column).collect()
}

/// The columns that options of `ps` ask for. Which processes are shown is not theirs to say: those of the container.
pub(crate) fn layout(options: &[String]) -> Result<Vec<Column>, String> {
    let mut chosen: Vec<Column> = Vec::new();
    let mut base = if options.is_empty() { FULL } else { BRIEF };
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let dash = option.starts_with('-');
        let letters = option.trim_start_matches('-');
        if let Some(list) = letters
            .strip_prefix("format=")
            .filter(|_| option.starts_with("--"))
        {
            chosen.extend(columns(list)?);
            continue;
        }
        for (at, letter) in letters.char_indices() {
            match letter {
                'e' | 'A' | 'a' | 'x' | 'd' | 'w' => {}
                'f' | 'F' if dash => base = FULL,
                'u' if !dash || letters == "aux" => base = USER,
                'o' => {
                    let rest = &letters[at + 1..];
                    let list = match rest {
                        "" => options.next().map(String::as_str).unwrap_or_default(),
                        rest => rest,
                    };
                    if list.is_empty() {
                        return Err(format!("{option}: columns are missing"));
                    }
                    chosen.extend(columns(list)?);
                    break;
                }
                other => {
                    return Err(format!(
                        "{option}: {other:?} is not supported here; -ef, aux and -o COLUMNS are"
                    ));
                }
            }
        }
    }
    match chosen.is_empty() {
        true => preset(base),
        false => Ok(chosen),
    }
}

/// The table.
pub(crate) fn table(columns: &[Column], processes: &[Process], host: &Host) -> String {
    let cells: Vec<Vec<String>> = processes
        .iter()
        .map(|process| columns.iter().map(|c| (c.cell)(process, host)).collect())
        .collect();
    let width = |at: usize, column: &Column| {
        let widest = cells.iter().map(|row| row[at].chars().count()).max();
        // No header at all (`-o pid=`): nothing to line up with.
        let least = if column.head.is_empty() {
            0
        } else {
            column.width
        };
        least
            .max(widest.unwrap_or(0))
            .max(column.head.chars().count())
    };
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(i, c)| width(i, c))
        .collect();
    let line = |words: Vec<&str>| {
        let mut line = String::new();
        for ((word, column), width) in words.iter().zip(columns).zip(&widths) {
            line.push_str(&match column.right {
                true => format!("{word:>width$} "),
                false => format!("{word:width$} "),
            });
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = String::new();
    if columns.iter().any(|column| !column.head.is_empty()) {
        text.push_str(&line(columns.iter().map(|c| c.head.as_str()).collect()));
    }
    for row in &cells {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            ticks: 100,
            page: 4096,
            boot: 1_700_000_000,
            now: 1_700_001_000,
            memory: 1 << 30,
            users: names("root:x:0:0:\nsomebody-long:x:7:7:\n"),
            groups: BTreeMap::new(),
        }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_of_stat_with_a_hostile_name() {
        let stat =
            "42 (a) b (c) S 1 42 42 34817 42 0 0 0 0 0 150 50 0 0 20 5 3 0 1000 8192000 25 1 2 3";
        let p = Process::parse(stat).expect("parses");
        assert_eq!((p.pid, p.name.as_str(), p.ppid), (42, "a) b (c", 1));
        assert_eq!((p.threads, p.nice, p.resident_pages), (3, 5, 25));
        assert_eq!(p.terminal(), "pts/1");
        assert_eq!(p.long_state(), "SNsl+");
        let text = table(&layout(&[]).expect("-ef"), &[p], &host());
        assert_eq!(
            text,
            "UID          PID    PPID  C STIME TTY          TIME CMD\n\
             root          42       1  0 22:13 pts/1    00:00:02 [a) b (c]\n"
        );
        assert_eq!(Process::parse("42 (x"), None);
        assert_eq!(Process::parse("42 (x) S 1"), None);
    }

    #[test]
    fn columns_by_name() {
        let p = Process {
            pid: 5,
            uid: 7,
            name: "sh".into(),
            ..Process::default()
        };
        let shown = |options: &str| {
            layout(&words(options))
                .map(|columns| table(&columns, std::slice::from_ref(&p), &host()))
        };
        assert_eq!(shown("-o pid= ").expect("ok"), "5\n");
        assert_eq!(
            shown("-eo pid,user,comm").expect("ok"),
            "    PID USER     COMMAND\n      5 somebod+ sh\n"
        );
        assert_eq!(
            shown("-e -o comm=NAME").expect("ok").lines().next(),
            Some("NAME")
        );
        assert!(
            shown("aux")
                .expect("ok")
                .starts_with("USER         PID %CPU")
        );
        assert!(shown("-o nope").expect_err("no").contains("not a column"));
        assert!(shown("-Z").is_err() && shown("-o").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(clock(3661), "01:01:01");
        assert_eq!(clock(90_000), "1-01:00:00");
        assert_eq!(elapsed(61), "01:01");
    }
}
