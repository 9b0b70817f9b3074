//! The messages of CRIU's RPC that we use (`images/rpc.proto` of CRIU 4.1).

use super::protobuf::{Message, fields};
use std::os::fd::OwnedFd;

/// The type of a request and of its response (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
    /// A pre-dump after which the service ends (`PRE_DUMP` waits for more).
    SinglePreDump = 13,
}

/// The fields of `criu_opts`.
pub(super) mod opts {
    pub const IMAGES_DIR_FD: u32 = 1;
    pub const PID: u32 = 2;
    pub const LEAVE_RUNNING: u32 = 3;
    pub const EXT_UNIX_SK: u32 = 4;
    pub const TCP_ESTABLISHED: u32 = 5;
    pub const EVASIVE_DEVICES: u32 = 6;
    pub const SHELL_JOB: u32 = 7;
    pub const FILE_LOCKS: u32 = 8;
    pub const LOG_LEVEL: u32 = 9;
    pub const LOG_FILE: u32 = 10;
    pub const PAGE_SERVER: u32 = 11;
    pub const NOTIFY_SCRIPTS: u32 = 12;
    pub const ROOT: u32 = 13;
    pub const PARENT_IMG: u32 = 14;
    pub const TRACK_MEM: u32 = 15;
    pub const AUTO_DEDUP: u32 = 16;
    pub const WORK_DIR_FD: u32 = 17;
    pub const LINK_REMAP: u32 = 18;
    pub const EXT_MNT: u32 = 23;
    pub const CG_ROOT: u32 = 25;
    pub const RST_SIBLING: u32 = 26;
    pub const INHERIT_FD: u32 = 27;
    pub const EXT_SHARING: u32 = 29;
    pub const EXT_MASTERS: u32 = 30;
    pub const MANAGE_CGROUPS_MODE: u32 = 34;
    pub const EXTERNAL: u32 = 37;
    pub const EMPTY_NS: u32 = 38;
    pub const JOIN_NS: u32 = 39;
    pub const FREEZE_CGROUP: u32 = 44;
    pub const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub const LAZY_PAGES: u32 = 48;
    pub const ORPHAN_PTS_MASTER: u32 = 50;
    pub const CONFIG_FILE: u32 = 51;
    pub const LSM_PROFILE: u32 = 53;
    pub const LSM_MOUNT_CONTEXT: u32 = 63;
    pub const NETWORK_LOCK: u32 = 64;
}

/// `criu_network_lock_method.NFTABLES`: without a helper program (`iptables-restore`).
pub(super) const LOCK_BY_NFTABLES: u32 = 2;
/// `criu_network_lock_method.SKIP`.
pub(super) const NO_LOCK: u32 = 3;

/// `ext_mount_map`, `inherit_fd` with a string, `join_namespace`: two strings.
pub(super) fn pair(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Message {
    let mut message = Message::default();
    message.text(1, key).text(2, value);
    message
}

/// `inherit_fd`.
pub(super) fn inherit_fd(key: &str, fd: i32) -> Message {
    let mut message = Message::default();
    message.text(1, key).int(2, fd);
    message
}

/// `criu_page_server_info`.
pub(super) fn page_server(address: &str, port: u16) -> Message {
    let mut message = Message::default();
    message.text(1, address).int(2, i32::from(port));
    message
}

/// A `criu_req`.
pub(super) fn request(kind: Kind, options: Option<&Message>) -> Message {
    let mut message = Message::default();
    message.number(1, kind as u32);
    if let Some(options) = options {
        message.message(2, options);
    }
    message
}

/// A question after which the service waits for another request (`keep_open`).
pub(super) fn question(kind: Kind, features: &[u32]) -> Message {
    let mut message = request(kind, None);
    message.flag(4, true);
    if !features.is_empty() {
        let mut wanted = Message::default();
        features.iter().for_each(|field| {
            wanted.flag(*field, true);
        });
        message.message(5, &wanted);
    }
    message
}

/// The answer to a notification.
pub(super) fn notified(success: bool) -> Message {
    let mut message = request(Kind::Notify, None);
    message.flag(3, success);
    message
}

/// A `criu_resp`, with the descriptor that came with it.
#[derive(Debug, Default)]
pub(super) struct Response {
    pub kind: u32,
    pub success: bool,
    /// The pid of the restored root process.
    pub restored: Option<i32>,
    pub notification: Option<Notification>,
    /// An errno, with a failure.
    pub errno: i32,
    /// The first error of the log, with a failure.
    pub message: Option<String>,
    /// Major, minor.
    pub version: Option<(i32, i32)>,
    /// Field numbers of the features that are there.
    pub features: Vec<u32>,
}

/// What happens right now; CRIU waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Notification {
    pub script: String,
    /// Of the root process, as a pid of CRIU's namespace.
    pub pid: Option<i32>,
    /// The master of a terminal, with `orphan-pts-master`.
    pub fd: Option<OwnedFd>,
}

impl Response {
    /// `None` for bytes that are no response.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut response = Self::default();
        for (field, value) in fields(bytes)? {
            match field {
                1 => response.kind = value.int() as u32,
                2 => response.success = value.int() != 0,
                4 => response.restored = number(value.bytes(), 1)?,
                5 => response.notification = Some(Notification::parse(value.bytes())?),
                7 => response.errno = value.int(),
                8 => {
                    let set = fields(value.bytes())?.into_iter();
                    response.features = set.filter(|(_, v)| v.int() != 0).map(|(f, _)| f).collect();
                }
                9 => response.message = Some(value.text()),
                10 => {
                    let (major, minor) = (number(value.bytes(), 1)?, number(value.bytes(), 2)?);
                    response.version = major.zip(minor);
                }
                _ => {}
            }
        }
        Some(response)
    }
}

impl Notification {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut notification = Self::default();
        for (field, value) in fields(bytes)? {
            match field {
                1 => notification.script = value.text(),
                2 => notification.pid = Some(value.int()),
                _ => {}
            }
        }
        Some(notification)
    }
}

/// An `int32` of a message; `None` outside for bytes that are no message.
fn number(bytes: &[u8], wanted: u32) -> Option<Option<i32>> {
    let found = fields(bytes)?.into_iter().find(|(f, _)| *f == wanted);
    Some(found.map(|(_, value)| value.int()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read() {
        let mut version = Message::default();
        version.int(1, 4).int(2, 1).text(3, "v4.1");
        let mut message = Message::default();
        message.number(1, 10).flag(2, true).message(10, &version);
        let response = Response::parse(message.bytes()).expect("a response");
        assert_eq!((response.kind, response.success), (10, true));
        assert_eq!(response.version, Some((4, 1)));
    }

    #[test]
    fn a_notification_is_read() {
        let mut notify = Message::default();
        notify.text(1, "post-restore").int(2, 77);
        let mut message = Message::default();
        message.number(1, 6).flag(2, true).message(5, &notify);
        let response = Response::parse(message.bytes()).expect("a response");
        let notification = response.notification.expect("a notification");
        assert_eq!(
            (notification.script.as_str(), notification.pid),
            ("post-restore", Some(77))
        );
    }

    #[test]
    fn requests_are_what_protoc_would_encode() {
        // type: DUMP, opts { images_dir_fd: 5 pid: 300 }
        let mut options = Message::default();
        options.int(opts::IMAGES_DIR_FD, 5).int(opts::PID, 300);
        assert_eq!(
            request(Kind::Dump, Some(&options)).bytes(),
            b"\x08\x01\x12\x05\x08\x05\x10\xac\x02"
        );
        assert_eq!(notified(true).bytes(), b"\x08\x06\x18\x01");
        assert_eq!(question(Kind::Version, &[]).bytes(), b"\x08\x0a\x20\x01");
    }
}
