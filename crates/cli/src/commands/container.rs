//! What `run`, `create`, `start` and `attach` share: making a container (pulling its image if need be), and being in
//! its foreground.

use super::pull;
use crate::create::flags::ContainerFlags;
use crate::errors::{Failure, Phase};
use crate::output;
use crate::stream::detach::{self, Watch};
use crate::stream::pump::{End, Pump};
use crate::stream::terminal::{self, Raw};
use barque_engine::containers::{Attachment, Created, Purpose};
use barque_engine::{Engine, Kind};
use barque_sys::signal::SignalFd;
use barque_types::container::{CreateContainer, PullPolicy, Source};
use std::fs::OpenOptions;
use std::io::Write;

/// Makes the container. An image that is not here is pulled, as the request's policy says, with progress on stderr.
pub fn create(
    engine: &Engine,
    request: &CreateContainer,
    flags: &ContainerFlags,
    purpose: Purpose,
) -> Result<Created, Failure> {
    if flags.cidfile.as_deref() == Some("") {
        return Err(Failure::value(
            "--cidfile",
            "",
            "the path of a file is needed",
        ));
    }
    if let Some(path) = &flags.cidfile
        && std::fs::exists(path).unwrap_or(false)
    {
        return Err(Failure::Refused(format!(
            "container ID file found, make sure the other container isn't running or delete {path}"
        )));
    }
    let created = create_or_pull(engine, request, flags.quiet, purpose)?;
    output::warn(&created.warnings);
    if let Some(path) = &flags.cidfile {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .and_then(|mut file| file.write_all(created.id.as_str().as_bytes()));
        if let Err(e) = written {
            // The caller asked for a container whose id is in that file: without the file it gets none.
            drop(
                engine
                    .containers()
                    .remove(created.id.as_str(), Default::default()),
            );
            return Err(Failure::Io(
                format!("failed to create the container ID file {path}"),
                e,
            ));
        }
    }
    Ok(created)
}

fn create_or_pull(
    engine: &Engine,
    request: &CreateContainer,
    quiet: bool,
    purpose: Purpose,
) -> Result<Created, Failure> {
    let failed = |e| Failure::Engine(Phase::Create, e);
    let create = || engine.containers().create(request, purpose);
    let Source::Image(image) = &request.source else {
        return create().map_err(failed);
    };
    if request.pull != PullPolicy::Always {
        match create() {
            Err(e) if e.kind() == Kind::NoSuchImage && request.pull == PullPolicy::Missing => {
                let Ok(reference) = pull::reference(image) else {
                    return Err(failed(e));
                };
                output::complain(&format!(
                    "Unable to find image '{}' locally\n",
                    reference.familiar()
                ));
            }
            other => return other.map_err(failed),
        }
    }
    let reference = pull::reference(image).map_err(|e| Failure::Refused(e.to_string()))?;
    pull::pull(
        engine,
        &reference,
        request.platform.clone(),
        pull::Progress::for_run(quiet),
        Phase::Create,
    )?;
    create().map_err(failed)
}

/// The user in the foreground of a container.
pub struct Foreground<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Name or id, for signals.
    pub name: &'a str,
    /// Carry stdin.
    pub stdin: bool,
    /// The container has a terminal.
    pub tty: bool,
    /// Hand signals on (when there is no terminal).
    pub sig_proxy: bool,
    /// The detach keys.
    pub watch: Watch,
    /// The signals, taken before the start.
    pub signals: Option<&'a SignalFd>,
}

impl Foreground<'_> {
    /// Carries bytes until the container ends; its exit code. Detaching is code 0.
    pub fn run(self, mut attachment: Attachment) -> Result<u8, Failure> {
        let raw = if self.tty && self.stdin {
            raw_mode()?
        } else {
            None
        };
        if self.tty
            && let Some((rows, cols)) = terminal::size()
        {
            // A failure to resize shows at the next event, if it means anything.
            drop(attachment.resize(rows, cols));
        }
        let forward = |number: i32| {
            drop(
                self.engine
                    .containers()
                    .kill(self.name, &number.to_string()),
            )
        };
        let pump = Pump {
            stdin: self.stdin,
            tty: self.tty,
            watch: self.watch,
            signals: self.signals,
            forward: (self.sig_proxy && !self.tty).then_some(&forward as &dyn Fn(i32)),
            asked_to_end: 0,
        };
        let end = pump.container(&mut attachment);
        drop(raw);
        match end? {
            End::Exited(code) => Ok(exit_code(code)),
            End::Detached => {
                output::complain("read escape sequence\n");
                Ok(0)
            }
            End::Signalled(number) => Err(died_of(number)),
            End::Insisted => {
                output::complain("\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n");
                Err(Failure::Said(1))
            }
            End::Lost => Err(Failure::Refused(format!(
                "lost the connection to container {}: its monitor has ended; see 'barque inspect {0}'",
                self.name
            ))),
        }
    }
}

/// stdin's terminal in raw mode.
pub fn raw_mode() -> Result<Option<Raw>, Failure> {
    Raw::enter().map_err(|e| Failure::Io("cannot set the terminal to raw mode".into(), e))
}

/// A container's exit code as ours.
pub fn exit_code(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(1)
}

/// Dies of the signal, so that a shell sees it; the terminal has been put right.
pub fn died_of(number: i32) -> Failure {
    barque_sys::signal::die_of(number);
    Failure::Said(u8::try_from(128 + number).unwrap_or(1))
}

/// The detach keys: the flag's, else the configuration's, else Docker's.
pub fn watch(flag: Option<&str>, configured: Option<&str>) -> Result<Watch, Failure> {
    let text = flag.or(configured).unwrap_or(detach::DEFAULT);
    let keys = detach::parse(text).map_err(|e| Failure::value("--detach-keys", text, e))?;
    Ok(Watch::new(keys))
}

/// A container's terminal wants one of the user's.
pub fn check_tty(stdin: bool, tty: bool) -> Result<(), Failure> {
    if stdin && tty && !terminal::stdin_is_terminal() {
        // Docker's words and code; not refused as a flag is.
        output::complain("the input device is not a TTY\n");
        return Err(Failure::Said(1));
    }
    Ok(())
}
