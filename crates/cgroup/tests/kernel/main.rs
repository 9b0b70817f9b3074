//! The crate against a real kernel: this machine's, and in virtual machines pure v2 and pure v1.
//!
//! Every test makes groups of its own name directly below each hierarchy's mount point and removes
//! them, also when it fails. They need root and say so. The same tests run in all layouts; where
//! layouts differ, the test asserts what each of them has to do.

mod support;

mod adopt;
mod devices;
mod life;
mod limits;
mod notify;
mod parents;
mod probe;
mod stats;
mod systemd_driver;
mod systemd_user;
mod update;
mod vm;
mod vm_systemd;
