//! `import`.

use super::Verb;
use super::lifecycle::parsed;
use super::load::open;
use crate::context::{Context, failed};
use crate::errors::Failure;
use crate::output;
use barque_engine::images::ImportOptions;
use barque_types::reference::Reference;
use clap::{ArgMatches, Args};

#[derive(Debug, Args)]
struct Flags {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform of the image (os[/arch[/variant]])
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    #[arg(value_name = "FILE")]
    args: Vec<String>,
}

/// `import`.
pub const VERB: Verb = Verb {
    name: "import",
    long: &["image import"],
    about: "Import the contents from a tarball to create a filesystem image",
    usage: "[OPTIONS] file|- [REPOSITORY[:TAG]]",
    examples: "\
debootstrap --variant=minbase trixie root && tar -C root -c . | barque import - debian:trixie
barque import -c 'CMD [\"/bin/bash\"]' root.tar.gz mine",
    arguments: (1, 2),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn options(flags: &Flags) -> Result<ImportOptions, Failure> {
    let tags = match flags.args.get(1) {
        None => Vec::new(),
        Some(name) => {
            vec![
                Reference::parse(name)
                    .map_err(|e| Failure::Refused(e.to_string()))?
                    .or_latest(),
            ]
        }
    };
    Ok(ImportOptions {
        source: match flags.args[0].as_str() {
            "-" | "" => "standard input".to_owned(),
            path => path.to_owned(),
        },
        message: flags.message.clone().unwrap_or_default(),
        changes: flags.change.clone(),
        tags,
        platform: flags
            .platform
            .as_deref()
            .map(|text| {
                text.parse()
                    .map_err(|e| Failure::value("--platform", text, e))
            })
            .transpose()?,
    })
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let options = options(&flags)?;
    let source = &flags.args[0];
    if source.contains("://") {
        return Err(Failure::Absent(format!(
            "import of {source}: fetching from a URL is not in this version; try: curl -sSL {source} | barque import -"
        )));
    }
    let archive = open(Some(source))?;
    let image = context
        .engine()?
        .images()
        .import(archive, &options)
        .map_err(failed)?;
    output::line(&image.id.to_string())?;
    Ok(0)
}
