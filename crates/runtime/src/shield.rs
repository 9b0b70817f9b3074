//! The runtime's own binary, out of reach of those it runs (CVE-2019-5736).
//!
//! An image's program may be `#!/proc/self/exe`, or a link to it: whoever executes it then runs the
//! *runtime's* binary inside of the container, where it is an ordinary process. Another one opens its
//! `/proc/PID/exe`, waits until nobody runs the binary any more (until then, writing is refused with
//! ETXTBSY), opens it once more for writing by its own descriptor, and owns the host. There is no safe
//! way to notice it before: what a path leads to is looked up by the kernel, at the last moment, in a
//! root that others may be changing.
//!
//! But an open file keeps the mount that it was found on. So we execute ourselves once more from a
//! read-only mount of the binary alone, which is attached nowhere: from there, it can be opened for
//! writing by nobody, and a container has neither a name for that mount nor a right over it. No byte is
//! copied. (runc, since 1.2, has an overlay for it; crun and older runc copy themselves into memory.)

use crate::error::{Context, Error, Result};
use crate::fsctx::clone_tree;
use barque_sys::mount::{Attributes, Change, set_attributes};
use barque_sys::process::{StringVector, execve_fd};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs};
use std::ffi::CString;
use std::path::Path;

/// The kernel's name for the binary that runs.
const OWN: &str = "/proc/self/exe";

/// Whether the mount that our own binary was executed from is read-only.
pub fn is_shielded() -> Result<bool> {
    let own = rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    own.and_then(|fd| fstatvfs(&fd))
        .map(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
        .step(|| format!("looking at {OWN}"))
}

/// Makes sure of it: returns when it is so, and else executes the binary again, with `args` (the first is
/// the program's name) and `env`. To be called before anything is opened; descriptors that are not
/// close-on-exec stay.
///
/// # Errors
/// A caller without CAP_SYS_ADMIN cannot make the mount. Its containers have no more rights over the
/// binary than itself.
pub fn shield(args: Vec<CString>, env: Vec<CString>) -> Result<()> {
    if is_shielded()? {
        // Before 6.14, a process that was executed by descriptor is called by its number.
        let name = args.first().map(|a| a.to_bytes().rsplit(|b| *b == b'/'));
        if let Some(Ok(name)) = name.and_then(|mut n| n.next()).map(CString::new) {
            let _ = rustix::thread::set_name(&name);
        }
        return Ok(());
    }
    let step = || "executing the runtime's binary from a read-only mount";
    let mount = clone_tree(CWD, Path::new(OWN), false).step(step)?;
    let change = Change {
        set: Attributes::RDONLY,
        ..Change::default()
    };
    set_attributes(&mount, false, change).step(step)?;
    let (args, env) = (StringVector::new(args), StringVector::new(env));
    Err(Error::step(step(), execve_fd(&mount, &args, &env)))
}
