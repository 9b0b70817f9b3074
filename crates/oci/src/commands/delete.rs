//! `delete`: a container, and all that it holds.

use super::*;
use crate::args::switch;
use barque_runtime::Error;

pub(super) const COMMAND: Command = Command {
    name: "delete",
    usage: "<container-id>...",
    about: "delete a container that is not running",
    details: "A created container is ended first. What a killed runtime has left half-made is deleted with --force.",
    flags: &[
        switch(
            "force",
            "f",
            "kill a running container first; a container that does not exist is no error",
        ),
        switch(
            "regex",
            "",
            "the ids are patterns: every container that one of them matches (crun's)",
        ),
    ],
    order: Order::Mixed,
    words: (1, usize::MAX),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let force = call.args.has("force");
    let mut first = None;
    for id in ids(call)? {
        match delete(call, &id, force) {
            Ok(()) => {}
            // All the others are deleted all the same.
            Err(failure) => {
                if let Some(previous) = first.replace(failure) {
                    log::error(&previous.message);
                }
            }
        }
    }
    first.map_or(Ok(0), Err)
}

fn delete(call: &Call<'_>, id: &str, force: bool) -> Result<(), Failure> {
    match call
        .globals
        .home
        .open(id)
        .and_then(|container| container.delete(force))
    {
        Ok(warnings) => {
            warn_all(&warnings);
            Ok(())
        }
        Err(Error::Unknown { .. }) if force => Ok(call.globals.home.sweep(id)?),
        Err(error) => Err(error.into()),
    }
}

fn ids(call: &Call<'_>) -> Result<Vec<String>, Failure> {
    let given = call.args.positionals();
    if !call.args.has("regex") {
        return Ok(given.to_vec());
    }
    let mut found = Vec::new();
    for id in call.globals.home.ids()? {
        for pattern in given {
            if crate::pattern::matches(pattern, &id)? {
                found.push(id.clone());
                break;
            }
        }
    }
    Ok(found)
}
