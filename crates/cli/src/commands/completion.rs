//! `completion`: a shell's completion script, from the tables that parse.

use super::Verb;
use super::lifecycle::parsed;
use crate::context::Context;
use crate::errors::Failure;
use crate::output;
use clap::{ArgMatches, Args};
use clap_complete::Shell;

#[derive(Debug, Args)]
struct Flags {
    #[arg(value_name = "SHELL")]
    args: Vec<String>,
}

/// `completion`.
pub const VERB: Verb = Verb {
    name: "completion",
    long: &[],
    about: "Generate the autocompletion script for the specified shell",
    usage: "bash|zsh|fish",
    examples: "\
source <(barque completion bash)
barque completion fish > ~/.config/fish/completions/barque.fish",
    arguments: (1, 1),
    flags: Flags::augment_args,
    run,
    common: false,
};

fn run(_: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let flags = parsed::<Flags>(matches)?;
    let shell = match flags.args[0].as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            return Err(Failure::Refused(format!(
                "no completion for shell \"{other}\": there are bash, zsh and fish"
            )));
        }
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "barque", &mut script);
    output::bytes(&script)?;
    Ok(0)
}
