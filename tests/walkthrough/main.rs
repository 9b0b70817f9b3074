//! A walk through the parts that a container is made of, in the order of a first text on the subject.
//!
//! Every step runs real programs in real containers and looks at them from both sides: from inside,
//! with the container's own tools, and from the host, with the kernel's files. Read it from top to
//! bottom as an introduction; each step stands alone.
//!
//! The host's own root file system serves as the container's where a complete Debian is wanted
//! (`--rootfs /`, copy-on-write: nothing is written to the host's); a busybox image where images matter.

mod step_01_uts;
mod step_02_ipc;
mod step_03_pid;
mod step_04_mount;
mod step_05_user;
mod step_06_net;
mod step_07_cgroups;
mod step_08_overlay;
mod step_09_shared_layers;
mod step_10_stop_all;
