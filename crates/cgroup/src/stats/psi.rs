//! `cpu.pressure`, `memory.pressure`, `io.pressure`: files of every v2 group, with or without the
//! controller, and so also of the v2 tree of a hybrid machine.

use super::types::{Pressure, Stall};
use crate::dir::Dir;

/// `None` when the kernel has no PSI, or has it switched off (`psi=0`, `cgroup.pressure`): it then
/// answers EOPNOTSUPP, or the file is not there.
pub(super) fn pressure(dir: Option<&Dir>, file: &str) -> Option<Pressure> {
    parse(&dir?.read(file).ok()?)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and a second line for `full`.
fn parse(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let stall = match words.next()? {
            "some" => &mut pressure.some,
            "full" => &mut pressure.full,
            _ => continue,
        };
        *stall = stall_of(words)?;
    }
    (!text.is_empty()).then_some(pressure)
}

fn stall_of<'a>(words: impl Iterator<Item = &'a str>) -> Option<Stall> {
    let mut stall = Stall::default();
    for word in words {
        let (key, value) = word.split_once('=')?;
        match key {
            "avg10" => stall.avg10 = value.parse().ok()?,
            "avg60" => stall.avg60 = value.parse().ok()?,
            "avg300" => stall.avg300 = value.parse().ok()?,
            "total" => stall.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read() {
        let text = "some avg10=24.51 avg60=44.94 avg300=44.00 total=376153033\n\
                    full avg10=0.00 avg60=0.10 avg300=0.00 total=7\n";
        let pressure = parse(text).unwrap();
        assert_eq!(pressure.some.avg10, 24.51);
        assert_eq!((pressure.some.total, pressure.full.total), (376_153_033, 7));
        assert_eq!(pressure.full.avg60, 0.1);
        assert_eq!(parse(""), None);
        assert_eq!(parse("some avg10=x\n"), None);
    }
}
