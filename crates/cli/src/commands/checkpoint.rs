//! `checkpoint create`, `checkpoint ls`, `checkpoint rm`.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::globals::{Lookup, environment};
use crate::{output, table};
use barque_engine::containers::CheckpointOptions;
use clap::{ArgMatches, Args};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
struct CreateFlags {
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    /// Leave the container running after checkpoint
    #[arg(long)]
    leave_running: bool,
    #[arg(value_name = "CONTAINER CHECKPOINT")]
    args: Vec<String>,
}

#[derive(Debug, Args)]
struct Flags {
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    #[arg(value_name = "CONTAINER")]
    args: Vec<String>,
}

/// `checkpoint create`.
pub const CREATE: Verb = Verb {
    name: "checkpoint create",
    long: &["checkpoint create"],
    about: "Create a checkpoint from a running container",
    usage: "[OPTIONS] CONTAINER CHECKPOINT",
    examples: "\
barque checkpoint create web before-lunch
barque start --checkpoint before-lunch web",
    arguments: (2, 2),
    flags: CreateFlags::augment_args,
    run: create,
    common: false,
};

/// `checkpoint ls`.
pub const LIST: Verb = Verb {
    name: "checkpoint ls",
    long: &["checkpoint ls", "checkpoint list"],
    about: "List checkpoints for a container",
    usage: "[OPTIONS] CONTAINER",
    examples: "barque checkpoint ls web",
    arguments: (1, 1),
    flags: Flags::augment_args,
    run: list,
    common: false,
};

/// `checkpoint rm`.
pub const REMOVE: Verb = Verb {
    name: "checkpoint rm",
    long: &["checkpoint rm", "checkpoint remove"],
    about: "Remove a checkpoint",
    usage: "[OPTIONS] CONTAINER CHECKPOINT",
    examples: "barque checkpoint rm web before-lunch",
    arguments: (2, 2),
    flags: Flags::augment_args,
    run: remove,
    common: false,
};

fn create(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<CreateFlags>(matches)?;
    let [container, checkpoint] = &flags.args[..] else {
        return Ok(1);
    };
    let options = CheckpointOptions {
        dir: directory(flags.checkpoint_dir.as_deref()),
        leave_running: flags.leave_running,
        criu: criu(&environment),
    };
    let engine = context.engine()?;
    engine
        .containers()
        .checkpoint(container, checkpoint, &options)
        .map_err(failed)?;
    output::line(checkpoint)?;
    Ok(0)
}

fn list(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let dir = directory(flags.checkpoint_dir.as_deref());
    let engine = context.engine()?;
    let names = engine
        .containers()
        .checkpoints(&flags.args[0], dir.as_deref())
        .map_err(failed)?;
    let mut text = String::from("CHECKPOINT NAME\n");
    for name in names {
        text.push_str(&name);
        text.push('\n');
    }
    output::text(&table::align(&text))?;
    Ok(0)
}

fn remove(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let [container, checkpoint] = &flags.args[..] else {
        return Ok(1);
    };
    let dir = directory(flags.checkpoint_dir.as_deref());
    let engine = context.engine()?;
    engine
        .containers()
        .remove_checkpoint(container, checkpoint, dir.as_deref())
        .map_err(failed)?;
    Ok(0)
}

/// Where the user wants checkpoints: absolute, for the monitor works in `/`.
pub fn directory(given: Option<&str>) -> Option<PathBuf> {
    let given = given.filter(|dir| !dir.is_empty())?;
    Some(std::path::absolute(given).unwrap_or_else(|_| PathBuf::from(given)))
}

/// The CRIU program as the shell would find it; its name when it is not in `PATH`.
pub fn criu(env: Lookup<'_>) -> PathBuf {
    let directories = env("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .map(|directory| directory.join("criu"))
        .find(|path| path.is_absolute() && path.is_file())
        .unwrap_or_else(|| Path::new("criu").to_owned())
}
