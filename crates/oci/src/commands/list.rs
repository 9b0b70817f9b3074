//! `list`: all containers of this root.

use super::*;
use crate::args::switch;
use crate::output;
use barque_runtime::lifecycle::StateView;

pub(super) const COMMAND: Command = Command {
    name: "list",
    usage: "",
    about: "list the containers of the root",
    details: "Those of another --root are not shown.",
    flags: &[
        value("format", "f", "FORMAT", "'table' (default) or 'json'"),
        switch("quiet", "q", "display only container ids"),
    ],
    order: Order::Mixed,
    words: (0, 0),
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let home = &call.globals.home;
    let ids = home.ids()?;
    if call.args.has("quiet") {
        return output::text(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    }
    // One that vanishes meanwhile, or that its maker has only begun, is not listed.
    let views: Vec<StateView> = ids
        .iter()
        .filter_map(|id| home.open(id).and_then(|c| c.view()).ok())
        .collect();
    match call.args.last("format") {
        None | Some("table") => output::text(&output::table(&rows(&views))),
        // Go's spelling of an empty list, which runc's callers know.
        Some("json") if views.is_empty() => output::text("null\n"),
        Some("json") => output::json(&views, false),
        Some(other) => Err(Failure::usage(format!(
            "invalid format {other:?}: 'table' and 'json' are known"
        ))),
    }
}

fn rows(views: &[StateView]) -> Vec<Vec<String>> {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
        .map(str::to_owned)
        .to_vec();
    let row = |v: &StateView| {
        vec![
            v.id.clone(),
            v.pid.to_string(),
            v.status.to_string(),
            v.bundle.display().to_string(),
            v.created.clone(),
            v.owner.clone(),
        ]
    };
    std::iter::once(head).chain(views.iter().map(row)).collect()
}
