//! The systemd driver: groups that systemd makes, as transient scopes and slices, so that the one
//! who manages the tree knows of every part of it.
//!
//! No helper programs and no library: [`bus`] is a small synchronous D-Bus client, [`message`] and
//! [`value`] are its wire form, [`properties`] maps limits, [`gvariant`] reads annotations.
//!
//! ```text
//! Manager::system / at   connect, authenticate, version
//! start    StartTransientUnit(PIDs, Slice, Delegate, limits) → JobRemoved → ControlGroup
//!          → the group in every hierarchy, the process in each, limits into the files
//! update   SetUnitProperties, then the files
//! stop     StopUnit → JobRemoved → ResetFailedUnit → what is left of the groups
//! ```
//!
//! A scope begins with a living process: the container's first process is born, waits, is put into
//! the scope by [`Manager::start`], and goes on only then.

mod bus;
mod gvariant;
mod message;
mod properties;
mod unit;
mod value;

use std::path::Path;
use std::time::Duration;

use barque_types::spec::Resources;
use rustix::io::Errno;

pub use gvariant::Property;
pub use unit::UnitName;
pub use value::Value;

use crate::error::{Error, Result};
use crate::group::Cgroup;
use crate::layout::{Layout, components};
use crate::limits::{self, Places};
use crate::make::{Existing, Making};
use crate::tables;
use bus::{Bus, Failure};
use message::Call;
use properties::Target;

const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// systemd's own socket, for root, where no bus runs (yet).
const PRIVATE: &str = "unix:path=/run/systemd/private";
const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// How long a job may take: systemd itself waits 90 s for what it stops.
const JOB: Duration = Duration::from_secs(120);

/// Whether systemd manages this machine (sd_booted(3)).
#[must_use]
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A connection to a systemd: the machine's, or a user's.
#[derive(Debug)]
pub struct Manager {
    bus: Bus,
    version: u32,
}

/// What a unit is started with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The process that a scope begins with; a slice needs none.
    pub pid: Option<i32>,
    /// For `systemctl status`.
    pub description: &'a str,
    /// The limits.
    pub resources: &'a Resources,
    /// Properties that somebody asked for by annotation; they override ours.
    pub properties: &'a [Property],
}

impl Manager {
    /// Connects to the machine's systemd, over the system bus or directly.
    ///
    /// # Errors
    /// [`Error::Systemd`] when neither way works.
    pub fn system() -> Result<Self> {
        Bus::connect(SYSTEM_BUS, false)
            .and_then(Self::over)
            .or_else(|first| {
                let direct = Bus::connect(PRIVATE, true).and_then(Self::over);
                direct.map_err(|second| no_connection(&format!("{first}; {second}")))
            })
    }

    /// Connects to a user's systemd over the user's bus; `address` is what
    /// `DBUS_SESSION_BUS_ADDRESS` holds, or `unix:path=$XDG_RUNTIME_DIR/bus`.
    ///
    /// # Errors
    /// [`Error::Systemd`].
    pub fn at(address: &str) -> Result<Self> {
        // The private socket of a manager is no bus.
        let peer = address.contains("/systemd/private");
        Bus::connect(address, peer)
            .and_then(Self::over)
            .map_err(|failure| no_connection(&format!("{address}: {failure}")))
    }

    fn over(bus: Bus) -> Result<Self, Failure> {
        let mut manager = Self { bus, version: 0 };
        let version = manager.property(MANAGER_PATH, MANAGER, "Version")?;
        manager.version = parse_version(&version);
        Ok(manager)
    }

    /// systemd's version number.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Starts the unit, waits until it is there, and applies the limits: by properties, and what
    /// has none by files, in all hierarchies. The process is in the group, in each of them, when
    /// this returns. A slice that exists is used as it is.
    ///
    /// Returns, beside the group, what could not be limited, in Docker's words.
    ///
    /// # Errors
    /// [`Error::Systemd`] and those of [`Cgroup::create`]; the unit is stopped again then, which
    /// ends its process.
    pub fn start(
        &mut self,
        layout: &Layout,
        name: &UnitName,
        start: &Start<'_>,
    ) -> Result<(Cgroup, Vec<String>)> {
        let target = self.target(layout);
        let properties = self.all_properties(name, start, target)?;
        self.start_unit(name, &properties)
            .map_err(|failure| failed("starting", name, &failure))?;
        let done = self.settle(layout, name, start);
        if done.is_err() && !name.is_slice() {
            let _ = self.stop_unit(name);
        }
        done
    }

    fn target(&self, layout: &Layout) -> Target {
        Target {
            version: self.version,
            v2: layout.controller("memory").is_none_or(|h| h.is_v2()),
        }
    }

    fn all_properties(
        &self,
        name: &UnitName,
        start: &Start<'_>,
        target: Target,
    ) -> Result<Vec<Property>> {
        let mut all = vec![
            Property::new("Description", Value::str(start.description)),
            // None of the ordering against shutdown and basic.target that services have.
            Property::new("DefaultDependencies", Value::Bool(false)),
        ];
        if name.is_slice() {
            all.push(Property::new("Wants", Value::strings([name.slice()])));
        } else {
            let Some(pid) = start.pid.and_then(|pid| u32::try_from(pid).ok()) else {
                return Err(Error::Systemd {
                    op: "starting",
                    unit: name.unit().to_owned(),
                    why: "a scope begins with a process, and none was given".to_owned(),
                });
            };
            all.push(Property::new("Slice", Value::str(name.slice())));
            all.push(Property::new("Delegate", Value::Bool(true)));
            let pids = vec![Value::Uint32(pid)];
            all.push(Property::new("PIDs", Value::Array("u".into(), pids)));
        }
        let io = if target.v2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        for accounting in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io] {
            all.push(Property::new(accounting, Value::Bool(true)));
        }
        all.extend(properties::of(start.resources, target, None)?);
        all.retain(|ours| {
            start
                .properties
                .iter()
                .all(|theirs| theirs.name != ours.name)
        });
        all.extend_from_slice(start.properties);
        Ok(all)
    }

    fn start_unit(&mut self, name: &UnitName, properties: &[Property]) -> Result<(), Failure> {
        const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
        let arguments = [
            Value::str(name.unit()),
            Value::str("replace"),
            as_variants(properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        match self.job("StartTransientUnit", &arguments) {
            Err(failure) if failure.is(EXISTS) && name.is_slice() => Ok(()),
            Err(failure) if failure.is(EXISTS) => {
                // One that failed is kept under its name until somebody has looked at it.
                self.reset(name);
                self.job("StartTransientUnit", &arguments)
            }
            result => result,
        }
    }

    /// What comes after systemd's part: the group in every hierarchy, the process in it, the files.
    fn settle(
        &mut self,
        layout: &Layout,
        name: &UnitName,
        start: &Start<'_>,
    ) -> Result<(Cgroup, Vec<String>)> {
        let path = self.control_group(name)?;
        let cgroup = adopt(layout, &path)?;
        if let Some(pid) = start.pid {
            cgroup.attach_where_missing(pid)?;
        }
        let warnings = limits::apply(&cgroup, start.resources, false)?;
        Ok((cgroup, warnings))
    }

    fn control_group(&mut self, name: &UnitName) -> Result<String> {
        let interface = if name.is_slice() {
            "org.freedesktop.systemd1.Slice"
        } else {
            "org.freedesktop.systemd1.Scope"
        };
        let asked = self
            .manager("GetUnit", &[Value::str(name.unit())])
            .and_then(|body| {
                let path = body.first().and_then(Value::as_str).unwrap_or_default();
                self.property(path, interface, "ControlGroup")
            });
        match asked {
            Ok(path) if !path.is_empty() => Ok(path),
            Ok(_) => Err(Error::Systemd {
                op: "starting",
                unit: name.unit().to_owned(),
                why: "it has no control group: its process may have ended already".to_owned(),
            }),
            Err(failure) => Err(failed("asking for the control group of", name, &failure)),
        }
    }

    /// Changes the limits that are set in `resources`, in systemd's mind and in the files.
    /// Returns what could not be limited, in Docker's words.
    ///
    /// # Errors
    /// [`Error::Systemd`] and those of [`Cgroup::apply`]; what was changed before stays changed.
    pub fn update(
        &mut self,
        layout: &Layout,
        name: &UnitName,
        cgroup: &Cgroup,
        resources: &Resources,
    ) -> Result<Vec<String>> {
        let target = self.target(layout);
        let resolved = with_quota(cgroup, resources)?;
        // Before anything changes, so that a refusal does not come half-way.
        limits::check_memory(cgroup, resources)?;
        let properties = properties::of(
            &resolved,
            target,
            limits::memory_in_force(&cgroup.place("memory"))?,
        )?;
        // On v1, systemd takes every device away before it gives back what it knows of: hold the
        // container still, as runc does, for it would see that.
        let hold = cgroup.v1_of("devices").is_some() && !cgroup.is_frozen()?;
        if hold {
            cgroup.freeze(Duration::from_secs(10))?;
        }
        let arguments = [
            Value::str(name.unit()),
            Value::Bool(true),
            as_variants(&properties),
        ];
        let result = self
            .manager("SetUnitProperties", &arguments)
            .map_err(|failure| failed("changing", name, &failure))
            .and_then(|_| cgroup.apply(&resolved));
        if hold {
            cgroup.thaw()?;
        }
        result
    }

    /// Stops the unit and removes what is left of the group. Its processes are to be killed before
    /// ([`Cgroup::kill_all`]): systemd would ask them to end and wait 90 s. A unit that is gone
    /// already is no error.
    ///
    /// # Errors
    /// [`Error::Systemd`], [`Error::Left`].
    pub fn stop(&mut self, name: &UnitName, cgroup: &Cgroup) -> Result<()> {
        self.stop_unit(name)?;
        cgroup.remove()
    }

    fn stop_unit(&mut self, name: &UnitName) -> Result<()> {
        const GONE: &str = "org.freedesktop.systemd1.NoSuchUnit";
        let arguments = [Value::str(name.unit()), Value::str("replace")];
        let stopped = match self.job("StopUnit", &arguments) {
            // A scope ends with its last process.
            Err(failure) if failure.is(GONE) => Ok(()),
            result => result.map_err(|failure| failed("stopping", name, &failure)),
        };
        self.reset(name);
        stopped
    }

    /// Has systemd forget that the unit failed. It has not, usually, or is gone: no error.
    fn reset(&mut self, name: &UnitName) {
        let _ = self.manager("ResetFailedUnit", &[Value::str(name.unit())]);
    }

    /// Calls a method that begins a job, and waits for the job's end.
    fn job(&mut self, member: &str, arguments: &[Value]) -> Result<(), Failure> {
        // Before the call: the job may be done when its answer is read. A peer has no matches.
        let rule = format!(
            "type='signal',sender='{DESTINATION}',path='{MANAGER_PATH}',interface='{MANAGER}',member='JobRemoved'"
        );
        self.bus.add_match_once(&rule)?;
        let body = self.manager(member, arguments)?;
        let job = body.first().and_then(Value::as_str).unwrap_or_default();
        let result = self.bus.wait_signal(JOB, |signal| {
            let [_, removed, _, result] = &signal.body[..] else {
                return None;
            };
            (signal.member == "JobRemoved" && removed.as_str() == Some(job))
                .then(|| result.as_str().unwrap_or_default().to_owned())
        })?;
        match &*result {
            // Skipped: there was nothing to do.
            "done" | "skipped" => Ok(()),
            other => Err(Failure::Broken(format!("the job ended with {other:?}"))),
        }
    }

    fn manager(&mut self, member: &str, arguments: &[Value]) -> Result<Vec<Value>, Failure> {
        let call = Call {
            destination: DESTINATION,
            path: MANAGER_PATH,
            interface: MANAGER,
            member,
        };
        self.bus.call(&call, arguments)
    }

    /// A property that is a string.
    fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<String, Failure> {
        let call = Call {
            destination: DESTINATION,
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
        };
        let body = self
            .bus
            .call(&call, &[Value::str(interface), Value::str(name)])?;
        let text = body.first().and_then(Value::as_str);
        Ok(text.unwrap_or_default().to_owned())
    }
}

/// The group `path` (as systemd sees it) in every hierarchy: where systemd made it, as it is;
/// elsewhere made by us. A hierarchy that a user may not write to is left out.
fn adopt(layout: &Layout, path: &str) -> Result<Cgroup> {
    let mut making = Making::default();
    let mut seen = path.to_owned();
    for hierarchy in layout.hierarchies() {
        let mounted = hierarchy.mounted();
        // In a container without a cgroup namespace the mount point is not the root.
        let Some(below) = tables::below(path, &mounted.mount_root) else {
            continue;
        };
        if hierarchy.is_v2() {
            seen.clone_from(&below);
        }
        if mounted.read_only {
            making.refuse_all(hierarchy, "is mounted read-only");
            continue;
        }
        match making.make(hierarchy, &components(hierarchy, &below)?, Existing::Adopt) {
            Ok(()) => {}
            Err(Error::Io {
                source: Errno::ACCESS | Errno::PERM | Errno::ROFS,
                ..
            }) => {
                making.refuse_all(hierarchy, "may not be written to by this user");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Cgroup::of(&seen, making))
}

/// `resources` with the quota that is in force where only a period is given: systemd keeps their
/// quotient.
fn with_quota(cgroup: &Cgroup, resources: &Resources) -> Result<Resources> {
    let mut resolved = resources.clone();
    if let Some(cpu) = &mut resolved.cpu
        && cpu.quota.unwrap_or(0) == 0
        && cpu.period.unwrap_or(0) != 0
    {
        cpu.quota = limits::quota_in_force(&cgroup.place("cpu"))?;
    }
    Ok(resolved)
}

/// `a(sv)`.
fn as_variants(properties: &[Property]) -> Value {
    let pairs = properties.iter().map(|property| {
        Value::Struct(vec![
            Value::str(&property.name),
            Value::Variant(Box::new(property.value.clone())),
        ])
    });
    Value::Array("(sv)".into(), pairs.collect())
}

/// `252.39-1~deb12u2`, `v255`: the first number.
fn parse_version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

fn failed(op: &'static str, name: &UnitName, failure: &Failure) -> Error {
    Error::Systemd {
        op,
        unit: name.unit().to_owned(),
        why: failure.to_string(),
    }
}

fn no_connection(why: &str) -> Error {
    Error::Systemd {
        op: "connecting to",
        unit: "its D-Bus socket".to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, version) in [("252.39-1~deb12u2", 252), ("v255", 255), ("", 0)] {
            assert_eq!(parse_version(text), version);
        }
    }
}
