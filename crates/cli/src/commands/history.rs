//! `history`.

use super::Verb;
use super::lifecycle::parsed;
use super::ps::FORMAT_HELP;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::format::{Listing, created_at, ellipsis, short_id};
use crate::template::Row;
use crate::{format, output};
use barque_types::docker::HistoryEntry;
use barque_types::time::Timestamp;
use barque_types::{human, size};
use clap::{ArgAction, ArgMatches, Args};
use std::collections::BTreeMap;

#[derive(Debug, Args)]
struct Flags {
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, action = ArgAction::SetTrue)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "IMAGE")]
    args: Vec<String>,
}

/// `history`.
pub const VERB: Verb = Verb {
    name: "history",
    long: &["image history"],
    about: "Show the history of an image",
    usage: "[OPTIONS] IMAGE",
    examples: "",
    arguments: (1, 1),
    flags: |command| {
        Flags::augment_args(command).mut_arg("human", crate::usage::parse::on_by_default)
    },
    run,
    common: false,
};

fn listing() -> Listing {
    Listing {
        headings: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
        table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}".to_owned(),
        labelled: false,
    }
}

fn row(entry: &HistoryEntry, flags: &Flags, now: i64) -> Row {
    let created_by = entry.created_by.replace('\t', " ");
    let at = created_at(entry.created);
    let since = if flags.human {
        human::ago(now - entry.created)
    } else {
        at.clone()
    };
    let bytes = if flags.human {
        size::decimal(entry.size)
    } else {
        entry.size.to_string()
    };
    Row {
        columns: BTreeMap::from([
            (
                "ID",
                if flags.no_trunc {
                    entry.id.as_str()
                } else {
                    short_id(&entry.id)
                }
                .into(),
            ),
            ("CreatedSince", since.into()),
            ("CreatedAt", at.into()),
            (
                "CreatedBy",
                if flags.no_trunc {
                    created_by
                } else {
                    ellipsis(&created_by, 45)
                }
                .into(),
            ),
            ("Size", bytes.into()),
            ("Comment", entry.comment.as_str().into()),
        ]),
        labels: None,
    }
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let entries = context
        .engine()?
        .images()
        .history(&flags.args[0])
        .map_err(failed)?;
    let now = Timestamp::now().unix_secs();
    let rows = entries
        .iter()
        .map(|entry| row(entry, &flags, now))
        .collect();
    output::text(&format::list(
        &listing(),
        flags.format.as_deref(),
        flags.quiet,
        rows,
    )?)?;
    Ok(0)
}
