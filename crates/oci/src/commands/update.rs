//! `update`: other limits for a container that runs.

use super::*;
use crate::units;
use barque_types::spec::{BlockIo, CpuLimits, MemoryLimits, PidsLimit, Resources};
use std::io::Read;

pub(super) const COMMAND: Command = Command {
    name: "update",
    usage: "<container-id>",
    about: "update container resource constraints",
    details: "What is not named stays as it is. With --resources, the other options are ignored; the file holds what
linux.resources does in a configuration:

    {\"memory\": {\"limit\": 67108864}, \"cpu\": {\"shares\": 512}, \"pids\": {\"limit\": 100}}",
    flags: &[
        value(
            "resources",
            "r",
            "FILE",
            "path to the file containing the resources to update, or '-' to read from the standard input",
        ),
        value(
            "blkio-weight",
            "",
            "N",
            "weight of block I/O, from 10 to 1000",
        ),
        value("cpu-period", "", "USEC", "period of the CPU quota"),
        value("cpu-quota", "", "USEC", "CPU time allowed in a period"),
        value(
            "cpu-burst",
            "",
            "USEC",
            "CPU time that may be saved for later periods",
        ),
        value(
            "cpu-share",
            "",
            "N",
            "CPU shares (relative weight against other containers)",
        ),
        value("cpu-rt-period", "", "USEC", "period of the realtime quota"),
        value(
            "cpu-rt-runtime",
            "",
            "USEC",
            "realtime CPU time allowed in a period",
        ),
        value("cpuset-cpus", "", "LIST", "CPUs to use"),
        value("cpuset-mems", "", "LIST", "memory nodes to use"),
        value("cpu-idle", "", "N", "1: run only when nobody else wants to"),
        value("memory", "", "SIZE", "memory limit; -1: none"),
        value(
            "memory-reservation",
            "",
            "SIZE",
            "memory to which the kernel pushes the container back under pressure",
        ),
        value(
            "memory-swap",
            "",
            "SIZE",
            "limit of memory and swap together; -1: unlimited swap",
        ),
        value(
            "kernel-memory",
            "",
            "SIZE",
            "obsolete, and without effect: the kernel has no such limit any more",
        ),
        value("kernel-memory-tcp", "", "SIZE", "obsolete, likewise"),
        value(
            "pids-limit",
            "",
            "N",
            "most processes in the container; -1: no limit",
        ),
        value(
            "l3-cache-schema",
            "",
            "TEXT",
            "Intel RDT, which is not supported",
        ),
        value(
            "mem-bw-schema",
            "",
            "TEXT",
            "Intel RDT, which is not supported",
        ),
    ],
    order: Order::Mixed,
    words: (1, 1),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let container = call.globals.home.open(id(call))?;
    let resources = match call.args.last("resources") {
        Some(file) => read(file)?,
        None => from_flags(call.args)?,
    };
    warn_all(&container.update(&resources)?);
    Ok(0)
}

fn read(file: &str) -> Result<Resources, Failure> {
    let mut text = Vec::new();
    let read = match file {
        "-" => stdin().lock().read_to_end(&mut text).map(drop),
        file => std::fs::read(file).map(|read| text = read),
    };
    read.while_(|| format!("reading the resources {file}"))?;
    serde_json::from_slice(&text).map_err(|e| Failure::usage(format!("resources {file}: {e}")))
}

fn from_flags(args: &Parsed) -> Result<Resources, Failure> {
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if args.last(flag).is_some_and(|text| !text.is_empty()) {
            return Err(Failure::usage(format!(
                "--{flag}: Intel RDT is not supported"
            )));
        }
    }
    for flag in ["kernel-memory", "kernel-memory-tcp"] {
        if args.last(flag).is_some() {
            log::warn(&format!(
                "--{flag} is obsolete and ignored: the kernel has no such limit any more"
            ));
        }
    }
    let size = |flag: &str| {
        args.last(flag)
            .map(|text| units::bytes(flag, text))
            .transpose()
    };
    let list = |flag: &str| {
        args.last(flag)
            .filter(|list| !list.is_empty())
            .map(str::to_owned)
    };
    let memory = MemoryLimits {
        limit: size("memory")?,
        reservation: size("memory-reservation")?,
        swap: size("memory-swap")?,
        ..MemoryLimits::default()
    };
    let cpu = CpuLimits {
        shares: args.number("cpu-share")?,
        quota: args.number("cpu-quota")?,
        burst: args.number("cpu-burst")?,
        period: args.number("cpu-period")?,
        realtime_runtime: args.number("cpu-rt-runtime")?,
        realtime_period: args.number("cpu-rt-period")?,
        cpus: list("cpuset-cpus"),
        mems: list("cpuset-mems"),
        idle: args.number("cpu-idle")?,
    };
    let block = BlockIo {
        weight: args.number("blkio-weight")?,
        ..BlockIo::default()
    };
    let limit = args.number::<i64>("pids-limit")?;
    Ok(Resources {
        memory: Some(memory).filter(|m| *m != MemoryLimits::default()),
        cpu: Some(cpu).filter(|c| *c != CpuLimits::default()),
        block_io: Some(block).filter(|b| *b != BlockIo::default()),
        pids: limit.map(|limit| PidsLimit { limit }),
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> Result<Resources, Failure> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        from_flags(&args::parse(COMMAND.flags, &words, COMMAND.order)?)
    }

    #[test]
    fn what_is_not_named_is_not_changed() {
        let all = resources(
            "id --memory 64m --memory-swap=-1 --cpu-share 7 --cpuset-cpus 0-1 --pids-limit -1",
        )
        .expect("parses");
        let memory = all.memory.expect("memory");
        assert_eq!((memory.limit, memory.swap), (Some(64 << 20), Some(-1)));
        assert_eq!(memory.reservation, None);
        let cpu = all.cpu.expect("cpu");
        assert_eq!((cpu.shares, cpu.quota), (Some(7), None));
        assert_eq!(cpu.cpus.as_deref(), Some("0-1"));
        assert_eq!(all.pids.expect("pids").limit, -1);
        assert_eq!(all.block_io, None);
        assert_eq!(resources("id").expect("nothing"), Resources::default());
        for bad in [
            "id --memory x",
            "id --cpu-share -3",
            "id --l3-cache-schema L3:0=f",
        ] {
            assert!(resources(bad).is_err(), "{bad}");
        }
    }
}
