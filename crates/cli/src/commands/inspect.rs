//! `inspect`: containers first, then images.

use super::lifecycle::parsed;
use super::{ANY, Verb};
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::format::object;
use crate::output;
use crate::template::{Template, Value};
use barque_engine::{Engine, Kind};
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Format output using a custom template:
    #[arg(short, long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type ("container", "image")
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    #[arg(value_name = "NAME|ID")]
    args: Vec<String>,
}

/// The help of `--format` of objects.
pub const FORMAT_HELP: &str = "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output using the given Go template";

/// `inspect`.
pub const VERB: Verb = Verb {
    name: "inspect",
    long: &["container inspect", "image inspect"],
    about: "Return low-level information on containers and images",
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    examples: "\
barque inspect web
barque inspect -f '{{.State.Status}} {{.State.ExitCode}}' web
barque inspect -f '{{json .GraphDriver.Data}}' busybox",
    arguments: (1, ANY),
    flags: Flags::augment_args,
    run,
    common: true,
};

/// Which kinds of objects are looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Both,
    Container,
    Image,
}

fn wanted(flags: &Flags, path: &str) -> Result<Wanted, Failure> {
    match (path.split(' ').next(), flags.kind.as_deref()) {
        (Some("container"), None) | (_, Some("container")) => Ok(Wanted::Container),
        (Some("image"), None) | (_, Some("image")) => Ok(Wanted::Image),
        (_, None | Some("")) => Ok(Wanted::Both),
        (_, Some(other)) => Err(Failure::Refused(format!(
            "unknown type: \"{other}\": must be one of \"container\", \"image\""
        ))),
    }
}

/// One object; `Ok(None)`: there is none of the name.
fn find(engine: &Engine, name: &str, wanted: Wanted, size: bool) -> Result<Option<Value>, Failure> {
    if wanted != Wanted::Image {
        match engine.containers().inspect(name, size) {
            Ok(container) => return object::value(&container).map(Some),
            Err(e) if e.kind() == Kind::NoSuchContainer => {}
            Err(e) => return Err(failed(e)),
        }
    }
    if wanted != Wanted::Container {
        match engine.images().inspect(name) {
            Ok(image) => return object::value(&image).map(Some),
            Err(e) if e.kind() == Kind::NoSuchImage => {}
            // What cannot be an image's name either is simply nothing's.
            Err(e) if e.kind() == Kind::Invalid && wanted == Wanted::Both => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(None)
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let wanted = wanted(&flags, &context.path)?;
    let template = match flags.format.as_deref() {
        None | Some("" | "json") => None,
        Some(format) => Some(Template::parse(format).map_err(Failure::Template)?),
    };
    let engine = context.engine()?;
    let mut found = Vec::new();
    let mut code = 0;
    for name in &flags.args {
        let fault = match find(&engine, name, wanted, flags.size) {
            Ok(Some(value)) => {
                match &template {
                    Some(template) => {
                        let text = template.execute(&value).map_err(Failure::TemplateData)?;
                        output::line(&text)?;
                    }
                    None => found.push(value),
                }
                continue;
            }
            Ok(None) => missing(name, wanted),
            Err(failure) => failure.report(&context.path).text,
        };
        // Told at the end for lists, after what was found; a script that reads stdout sees an array in any case.
        output::complain(&fault);
        code = 1;
    }
    if template.is_none() {
        output::line(&match flags.format.as_deref() {
            Some("json") => object::compact(&found)?,
            _ => object::pretty(&found)?,
        })?;
    }
    Ok(code)
}

fn missing(name: &str, wanted: Wanted) -> String {
    let kind = match wanted {
        Wanted::Both => "object",
        Wanted::Container => "container",
        Wanted::Image => "image",
    };
    format!("Error: No such {kind}: {name}\n")
}
