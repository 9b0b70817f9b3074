//! Limits as properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).
//!
//! systemd has to know what it can hold itself, because it writes its own idea of a unit into the
//! files again when it likes to (`daemon-reload`, another unit of the slice starts). What it has no
//! property for, and what it rounds, is written into the files after it.

use barque_types::spec::{CpuLimits, MemoryLimits, Resources};

use super::gvariant::Property;
use super::value::Value;
use crate::error::{Error, Result};
use crate::limits::{io_weight_of, swap_max, weight_of, whitelist};

/// systemd's "no limit".
const INFINITY: u64 = u64::MAX;
const DEFAULT_PERIOD: u64 = 100_000;

/// Which systemd, and what its groups are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) version: u32,
    /// Whether the unit's limits are on v2.
    pub(super) v2: bool,
}

struct List {
    target: Target,
    properties: Vec<Property>,
}

/// The properties for the limits that are set; `memory_now` is the memory limit in force.
pub(super) fn of(
    resources: &Resources,
    target: Target,
    memory_now: Option<i64>,
) -> Result<Vec<Property>> {
    let mut list = List {
        target,
        properties: Vec::new(),
    };
    list.devices(resources)?;
    if let Some(memory) = &resources.memory {
        list.memory(memory, memory_now)?;
    }
    if let Some(cpu) = &resources.cpu {
        list.cpu(cpu)?;
    }
    if let Some(pids) = &resources.pids {
        let limit = u64::try_from(pids.limit).ok().filter(|&limit| limit > 0);
        list.number("TasksMax", limit.unwrap_or(INFINITY));
    }
    let weight = resources.block_io.as_ref().and_then(|io| io.weight);
    if let Some(weight) = weight.filter(|&weight| weight != 0) {
        if target.v2 {
            list.number("IOWeight", io_weight_of(weight));
        } else {
            list.number("BlockIOWeight", u64::from(weight));
        }
    }
    if target.v2 {
        for (file, value) in &resources.unified {
            list.unified(file, value)?;
        }
    }
    Ok(list.properties)
}

impl List {
    fn put(&mut self, name: &str, value: Value) {
        self.properties.retain(|property| property.name != name);
        self.properties.push(Property::new(name, value));
    }

    fn number(&mut self, name: &str, value: u64) {
        self.put(name, Value::Uint64(value));
    }

    fn limit(&mut self, name: &str, value: i64) {
        self.number(name, u64::try_from(value).unwrap_or(INFINITY));
    }

    /// Rules that are no whitelist stay with us: `auto` lets everything pass systemd's program, and
    /// ours is the stricter one.
    fn devices(&mut self, resources: &Resources) -> Result<()> {
        if resources.devices.is_empty() {
            return Ok(());
        }
        let list = whitelist(&resources.devices)?;
        // A list for major *: minor 3 cannot be said to systemd.
        let list = list.filter(|list| {
            list.iter()
                .all(|entry| entry.major.is_some() || entry.minor.is_none())
        });
        let policy = if list.is_some() { "strict" } else { "auto" };
        let entries = list.unwrap_or_default().into_iter().map(|entry| {
            let kind = entry.kind;
            let what = match (entry.major, entry.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, _) => format!("{kind}-*"),
            };
            Value::Struct(vec![Value::Str(what), Value::Str(entry.access)])
        });
        let entries = Value::Array("(ss)".into(), entries.collect());
        self.put("DevicePolicy", Value::str(policy));
        // An empty list resets what systemd has; it adds to it otherwise.
        self.properties.push(Property::new(
            "DeviceAllow",
            Value::Array("(ss)".into(), Vec::new()),
        ));
        self.properties.push(Property::new("DeviceAllow", entries));
        Ok(())
    }

    fn memory(&mut self, memory: &MemoryLimits, now: Option<i64>) -> Result<()> {
        let set = |value: Option<i64>| value.filter(|&value| value != 0);
        if let Some(limit) = set(memory.limit) {
            let name = if self.target.v2 {
                "MemoryMax"
            } else {
                "MemoryLimit"
            };
            self.limit(name, limit);
        }
        if !self.target.v2 {
            return Ok(());
        }
        if let Some(reservation) = set(memory.reservation) {
            // No protection, and not protection of everything, is what -1 asks for.
            self.limit("MemoryLow", reservation.max(0));
        }
        match swap_max(set(memory.limit), set(memory.swap), now)? {
            Some(max) => self.unified("memory.swap.max", &max),
            None => Ok(()),
        }
    }

    fn cpu(&mut self, cpu: &CpuLimits) -> Result<()> {
        if let Some(shares) = cpu.shares.filter(|&shares| shares != 0) {
            if self.target.v2 {
                self.number("CPUWeight", weight_of(shares));
            } else {
                self.number("CPUShares", shares);
            }
        }
        if cpu.idle == Some(1) {
            self.idle();
        }
        let period = cpu.period.filter(|&period| period != 0);
        if let Some(period) = period {
            self.period(period);
        }
        if let Some(quota) = cpu.quota.filter(|&quota| quota != 0) {
            self.quota(u64::try_from(quota).ok(), period);
        }
        // v1's cpuset is not systemd's.
        if self.target.v2 {
            self.cpuset("AllowedCPUs", cpu.cpus.as_deref())?;
            self.cpuset("AllowedMemoryNodes", cpu.mems.as_deref())?;
        }
        Ok(())
    }

    /// `CPUWeight=idle` came with 252.
    fn idle(&mut self) {
        if self.target.v2 && self.target.version >= 252 {
            self.number("CPUWeight", 0);
        }
    }

    fn period(&mut self, period: u64) {
        if self.target.version >= 242 {
            self.number("CPUQuotaPeriodUSec", period);
        }
    }

    /// systemd keeps the quota per second, in steps of 10 ms: rounded up, as a limit that is met by
    /// the file that is written afterwards.
    fn quota(&mut self, quota: Option<u64>, period: Option<u64>) {
        let period = period.unwrap_or(DEFAULT_PERIOD).max(1);
        let value = quota.map_or(INFINITY, |quota| {
            let per_second = u128::from(quota) * 1_000_000 / u128::from(period);
            u64::try_from(per_second)
                .unwrap_or(INFINITY - 10_000)
                .next_multiple_of(10_000)
        });
        self.number("CPUQuotaPerSecUSec", value);
    }

    fn cpuset(&mut self, name: &str, list: Option<&str>) -> Result<()> {
        let Some(list) = list.filter(|list| !list.is_empty()) else {
            return Ok(());
        };
        let mask = bits(list).ok_or_else(|| {
            Error::unsupported(format!("cpuset {list:?} is not a list like 0-2,4"))
        })?;
        if self.target.version >= 244 {
            self.put(name, Value::bytes(&mask));
        }
        Ok(())
    }

    /// A file of v2 that systemd has a property for; the others are written only.
    fn unified(&mut self, file: &str, value: &str) -> Result<()> {
        let value = value.trim();
        let bad =
            || Error::unsupported(format!("unified limit {file}: {value:?} is not its value"));
        let number = |text: &str| match text {
            "max" => Ok(INFINITY),
            digits => digits.parse::<u64>().map_err(|_| bad()),
        };
        let property = match file {
            "memory.max" => "MemoryMax",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpu.weight" => "CPUWeight",
            "cpu.idle" => {
                if value == "1" {
                    self.idle();
                }
                return Ok(());
            }
            "cpu.max" => {
                let mut words = value.split_ascii_whitespace();
                let quota = number(words.next().ok_or_else(bad)?)?;
                let period = words.next().map(number).transpose()?;
                if let Some(period) = period {
                    self.period(period);
                }
                self.quota(Some(quota).filter(|&quota| quota != INFINITY), period);
                return Ok(());
            }
            "cpuset.cpus" => return self.cpuset("AllowedCPUs", Some(value)),
            "cpuset.mems" => return self.cpuset("AllowedMemoryNodes", Some(value)),
            _ => return Ok(()),
        };
        let value = number(value)?;
        self.number(property, value);
        Ok(())
    }
}

/// `0-2,9` as a bit mask, the lowest in the first byte.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut mask = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last {
            return None;
        }
        for bit in first..=last {
            let at = usize::from(bit / 8);
            if mask.len() <= at {
                mask.resize(at + 1, 0);
            }
            mask[at] |= 1 << (bit % 8);
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str, version: u32, v2: bool) -> Vec<String> {
        let resources = serde_json::from_str(json).unwrap();
        of(&resources, Target { version, v2 }, None)
            .unwrap()
            .into_iter()
            .map(|property| {
                let value = match property.value {
                    Value::Uint64(INFINITY) => "max".to_owned(),
                    Value::Uint64(number) => number.to_string(),
                    other => format!("{other:?}"),
                };
                format!("{}={value}", property.name)
            })
            .collect()
    }

    #[test]
    fn limits_of_v2() {
        let json = r#"{"memory":{"limit":4096,"swap":8192,"reservation":-1},"cpu":{"shares":1024,"quota":50000,"period":200000},"pids":{"limit":7},"blockIO":{"weight":1000}}"#;
        assert_eq!(
            shown(json, 252, true),
            [
                "MemoryMax=4096",
                "MemoryLow=0",
                "MemorySwapMax=4096",
                "CPUWeight=100",
                "CPUQuotaPeriodUSec=200000",
                "CPUQuotaPerSecUSec=250000",
                "TasksMax=7",
                "IOWeight=10000"
            ]
        );
        let none =
            r#"{"memory":{"limit":-1},"cpu":{"quota":-1,"shares":2,"idle":1},"pids":{"limit":-1}}"#;
        assert_eq!(
            shown(none, 252, true),
            [
                "MemoryMax=max",
                "MemorySwapMax=max",
                "CPUWeight=0",
                "CPUQuotaPerSecUSec=max",
                "TasksMax=max"
            ]
        );
        assert!(shown(none, 251, true).contains(&"CPUWeight=1".to_owned()));
        // 1234 of 100000 is 12340 µs per second: the next step.
        assert_eq!(
            shown(r#"{"cpu":{"quota":1234}}"#, 240, true),
            ["CPUQuotaPerSecUSec=20000"]
        );
    }

    #[test]
    fn limits_of_v1() {
        let json = r#"{"memory":{"limit":4096,"swap":8192,"reservation":3},"cpu":{"shares":512,"cpus":"0"},"blockIO":{"weight":300}}"#;
        assert_eq!(
            shown(json, 252, false),
            ["MemoryLimit=4096", "CPUShares=512", "BlockIOWeight=300"]
        );
    }

    #[test]
    fn unified_files_have_properties_too() {
        let json = r#"{"memory":{"limit":5},"unified":{"cpu.max":"max 1000","cpuset.cpus":"0,9","memory.high":"77","memory.max":"6","memory.oom.group":"1"}}"#;
        assert_eq!(
            shown(json, 252, true),
            [
                "CPUQuotaPeriodUSec=1000",
                "CPUQuotaPerSecUSec=max",
                r#"AllowedCPUs=Array("y", [Byte(1), Byte(2)])"#,
                "MemoryHigh=77",
                "MemoryMax=6"
            ]
        );
        let bad = serde_json::from_str(r#"{"unified":{"memory.high":"much"}}"#).unwrap();
        let target = Target {
            version: 252,
            v2: true,
        };
        assert!(of(&bad, target, None).is_err());
    }

    #[test]
    fn device_rules_become_a_list_where_they_are_one() {
        let list = shown(
            r#"{"devices":[{"allow":false},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"},{"allow":true,"type":"c","major":136,"access":"rw"},{"allow":true,"type":"b","access":"m"}]}"#,
            252,
            true,
        );
        assert_eq!(list[0], r#"DevicePolicy=Str("strict")"#);
        for entry in [
            r#"Str("/dev/char/1:3"), Str("rwm")"#,
            r#"Str("char-136"), Str("rw")"#,
            r#"Str("block-*"), Str("m")"#,
        ] {
            assert!(list[2].contains(entry), "{list:?}");
        }
        let open = shown(r#"{"devices":[{"allow":true}]}"#, 252, true);
        assert_eq!(open[0], r#"DevicePolicy=Str("auto")"#);
        assert_eq!(open.len(), 3);
    }

    #[test]
    fn masks() {
        assert_eq!(bits("0-2,9"), Some(vec![7, 2]));
        assert_eq!(bits("8"), Some(vec![0, 1]));
        for bad in ["", "2-1", "a", "1,", "99999"] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }
}
