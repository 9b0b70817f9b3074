//! The texts of `-v`, `--mount` and `--tmpfs`.
//!
//! Named and anonymous volumes do not exist in this version; asking for one says so instead of binding something else.

use crate::container::{BindMount, MountRequest, TmpfsMount};
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Why a mount is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidMount(String);

impl fmt::Display for InvalidMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidMount {}

fn refuse<T>(message: impl Into<String>) -> Result<T, InvalidMount> {
    Err(InvalidMount(message.into()))
}

/// The propagation words of mount_namespaces(7).
const PROPAGATIONS: [&str; 6] = [
    "rprivate", "private", "rshared", "shared", "rslave", "slave",
];

/// Without `.` and `..` and doubled slashes; purely by text.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// An absolute path of the container that is not its root.
fn target(text: &str) -> Result<PathBuf, InvalidMount> {
    if !text.starts_with('/') {
        return refuse(format!(
            "invalid mount path \"{text}\": the path in the container must be absolute"
        ));
    }
    let path = clean(Path::new(text));
    if path == Path::new("/") {
        return refuse(format!(
            "invalid mount path \"{text}\": the destination can't be '/'"
        ));
    }
    Ok(path)
}

/// `-v SOURCE:TARGET[:OPTIONS]`. A source that begins with `.` is taken from `cwd`; a
/// bare name would be a named volume.
pub fn volume(text: &str, cwd: &Path) -> Result<BindMount, InvalidMount> {
    let (source, rest) = match text.split_once(':') {
        Some(parts) => parts,
        None => {
            return refuse(format!(
                "\"{text}\": anonymous volumes come with a later version; use HOST_DIR:{text}"
            ));
        }
    };
    let (target_text, mode) = rest.split_once(':').unwrap_or((rest, ""));
    if source.is_empty() || target_text.is_empty() || mode.contains(':') {
        return refuse(format!(
            "invalid volume specification: \"{text}\": write HOST_PATH:CONTAINER_PATH[:OPTIONS]"
        ));
    }
    let source = match source.as_bytes()[0] {
        b'/' => clean(Path::new(source)),
        b'.' => clean(&cwd.join(source)),
        _ => {
            return refuse(format!(
                "\"{source}\" is a volume's name: named volumes come with a later version; use a directory, such as ./{source}"
            ));
        }
    };
    let mut mount = BindMount {
        source,
        target: target(target_text)?,
        create_source: true,
        mode: mode.to_owned(),
        ..BindMount::default()
    };
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        volume_option(&mut mount, option).map_err(|why| {
            InvalidMount(format!("invalid volume specification: \"{text}\": {why}"))
        })?;
    }
    Ok(mount)
}

/// One word after the second colon of `-v`.
fn volume_option(mount: &mut BindMount, option: &str) -> Result<(), InvalidMount> {
    match option {
        "ro" | "readonly" => mount.read_only = true,
        "rw" => mount.read_only = false,
        // SELinux labels are not changed, and the macOS cache modes mean nothing on Linux: as with Docker on a host
        // without SELinux, the words are accepted so that scripts keep working.
        "z" | "Z" | "consistent" | "cached" | "delegated" | "default" => {}
        "rbind" => mount.non_recursive = false,
        "bind" => mount.non_recursive = true,
        word if PROPAGATIONS.contains(&word) => mount.propagation = Some(word.to_owned()),
        other => return refuse(format!("unknown option \"{other}\"")),
    }
    Ok(())
}

/// `--tmpfs TARGET[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<TmpfsMount, InvalidMount> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let options: Vec<String> = options
        .split(',')
        .filter(|o| !o.is_empty())
        .map(str::to_owned)
        .collect();
    if let Some(bad) = options.iter().find(|option| !is_tmpfs_option(option)) {
        return refuse(format!("invalid tmpfs option \"{bad}\" in \"{text}\""));
    }
    Ok(TmpfsMount {
        target: target(path)?,
        options,
    })
}

/// Whether tmpfs(5) or mount(8) knows the option.
fn is_tmpfs_option(option: &str) -> bool {
    const FLAGS: [&str; 21] = [
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "mand",
        "nomand",
    ];
    const VALUES: [&str; 8] = [
        "size",
        "mode",
        "uid",
        "gid",
        "nr_inodes",
        "nr_blocks",
        "mpol",
        "huge",
    ];
    match option.split_once('=') {
        None => FLAGS.contains(&option) || is_propagation(option),
        Some((key, value)) => VALUES.contains(&key) && !value.is_empty(),
    }
}

fn is_propagation(option: &str) -> bool {
    PROPAGATIONS.contains(&option)
}

/// The fields of one CSV line (RFC 4180): a field may be in double quotes, where `""` is a quote.
fn csv(text: &str) -> Result<Vec<String>, InvalidMount> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("one field from the start");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    if quoted {
        refuse(format!("\"{text}\": a quote is not closed"))
    } else {
        Ok(fields)
    }
}

/// What the fields of `--mount` said, before its kind gives them their meaning.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    propagation: Option<String>,
    non_recursive: bool,
    create_source: bool,
    tmpfs: Vec<String>,
}

/// `--mount type=bind,source=…,target=…` or `type=tmpfs,target=…`.
pub fn mount(text: &str, cwd: &Path) -> Result<MountRequest, InvalidMount> {
    let mut fields = Fields::default();
    for field in csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        mount_field(&mut fields, &key, value, &field)?;
    }
    let target = match &fields.target {
        Some(text) => target(text)?,
        None => return refuse("target is required"),
    };
    match fields.kind.as_deref() {
        Some("bind") => bind(fields, target, cwd),
        Some("tmpfs") => Ok(MountRequest::Tmpfs(memory(fields, target)?)),
        None | Some("volume") => refuse(
            "volumes come with a later version; use type=bind,source=HOST_DIR,… or type=tmpfs,…",
        ),
        Some(other) => refuse(format!(
            "mount type \"{other}\" is not in this version: use bind or tmpfs"
        )),
    }
}

fn bind(fields: Fields, target: PathBuf, cwd: &Path) -> Result<MountRequest, InvalidMount> {
    if !fields.tmpfs.is_empty() {
        return refuse("cannot mix tmpfs-* options with mount type \"bind\"");
    }
    let Some(source) = fields.source.filter(|source| !source.is_empty()) else {
        return refuse("source is required for mount type \"bind\"");
    };
    Ok(MountRequest::Bind(BindMount {
        source: clean(&cwd.join(source)),
        target,
        read_only: fields.read_only,
        propagation: fields.propagation,
        create_source: fields.create_source,
        non_recursive: fields.non_recursive,
        mode: String::new(),
    }))
}

fn memory(mut fields: Fields, target: PathBuf) -> Result<TmpfsMount, InvalidMount> {
    if fields.source.is_some() {
        return refuse("source must not be given for mount type \"tmpfs\"");
    }
    if fields.propagation.is_some() || fields.non_recursive || fields.create_source {
        return refuse("cannot mix bind-* options with mount type \"tmpfs\"");
    }
    if fields.read_only {
        fields.tmpfs.insert(0, "ro".to_owned());
    }
    Ok(TmpfsMount {
        target,
        options: fields.tmpfs,
    })
}

/// Go's spellings of a truth value; a key without one means true.
fn truth(value: Option<&str>, field: &str) -> Result<bool, InvalidMount> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) => refuse(format!("invalid value in \"{field}\": use true or false")),
    }
}

fn mount_field(
    fields: &mut Fields,
    key: &str,
    value: Option<&str>,
    field: &str,
) -> Result<(), InvalidMount> {
    match key {
        "readonly" | "ro" => fields.read_only = truth(value, field)?,
        "bind-nonrecursive" => fields.non_recursive = truth(value, field)?,
        "bind-create-src" => fields.create_source = truth(value, field)?,
        _ => {
            let Some(value) = value else {
                return refuse(format!("invalid field '{field}' must be a key=value pair"));
            };
            valued_field(fields, key, value, field)?;
        }
    }
    Ok(())
}

fn valued_field(
    fields: &mut Fields,
    key: &str,
    value: &str,
    field: &str,
) -> Result<(), InvalidMount> {
    match key {
        "type" => fields.kind = Some(value.to_ascii_lowercase()),
        "source" | "src" => fields.source = Some(value.to_owned()),
        "target" | "dst" | "destination" => fields.target = Some(value.to_owned()),
        "consistency" => {}
        "bind-propagation" if is_propagation(&value.to_ascii_lowercase()) => {
            fields.propagation = Some(value.to_ascii_lowercase());
        }
        "bind-recursive" if value == "enabled" => fields.non_recursive = false,
        "bind-recursive" if value == "disabled" => fields.non_recursive = true,
        "tmpfs-size" => match crate::size::parse_binary(value) {
            Ok(bytes) => fields.tmpfs.push(format!("size={bytes}")),
            Err(error) => return refuse(format!("invalid value for {key}: {error}")),
        },
        "tmpfs-mode" if u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777) => {
            fields.tmpfs.push(format!("mode={value}"));
        }
        "bind-propagation" | "bind-recursive" | "tmpfs-mode" => {
            return refuse(format!("invalid value for {key}: {value}"));
        }
        _ if key.starts_with("volume-") || key.starts_with("image-") => {
            return refuse(format!(
                "option \"{key}\" is not in this version: only bind and tmpfs mounts exist"
            ));
        }
        _ => return refuse(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_home(text: &str) -> Result<BindMount, String> {
        volume(text, Path::new("/home/me")).map_err(|e| e.to_string())
    }

    #[test]
    fn volumes() {
        let plain = at_home("/src/:/dst").unwrap();
        assert_eq!(
            (plain.source.to_str(), plain.target.to_str()),
            (Some("/src"), Some("/dst"))
        );
        assert!(!plain.read_only && plain.create_source && plain.propagation.is_none());
        let full = at_home("./a/../b:/dst:ro,rslave,z").unwrap();
        assert_eq!(full.source.to_str(), Some("/home/me/b"));
        assert!(full.read_only);
        assert_eq!(full.propagation.as_deref(), Some("rslave"));
        assert_eq!(full.mode, "ro,rslave,z");
        assert_eq!(at_home(".:/dst").unwrap().source.to_str(), Some("/home/me"));
    }

    #[test]
    fn volumes_refused() {
        for (text, part) in [
            (
                "data:/dst",
                "named volumes come with a later version; use a directory, such as ./data",
            ),
            ("/dst", "anonymous volumes come with a later version"),
            ("/a:b", "the path in the container must be absolute"),
            ("/a:/", "the destination can't be '/'"),
            ("/a:/..", "the destination can't be '/'"),
            ("/a:/b:ro:x", "invalid volume specification"),
            (":/b", "invalid volume specification"),
            ("/a:/b:what", "unknown option \"what\""),
        ] {
            let message = at_home(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn tmpfs_options() {
        let parsed = tmpfs("/run:rw,noexec,size=64k").unwrap();
        assert_eq!(parsed.target.to_str(), Some("/run"));
        assert_eq!(parsed.options, ["rw", "noexec", "size=64k"]);
        assert!(tmpfs("/run").unwrap().options.is_empty());
        assert!(tmpfs("run").is_err());
        assert_eq!(
            tmpfs("/run:foo").unwrap_err().to_string(),
            "invalid tmpfs option \"foo\" in \"/run:foo\""
        );
        assert!(tmpfs("/run:size=").is_err());
        assert!(tmpfs("/run:bind").is_err());
    }

    #[test]
    fn mounts() {
        let parse = |text: &str| mount(text, Path::new("/w"));
        let MountRequest::Bind(bind) =
            parse("type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared,bind-nonrecursive")
                .unwrap()
        else {
            panic!("a bind");
        };
        assert_eq!(
            (bind.source.to_str(), bind.target.to_str()),
            (Some("/a"), Some("/b"))
        );
        assert!(bind.read_only && bind.non_recursive && !bind.create_source);
        assert_eq!(bind.propagation.as_deref(), Some("rshared"));
        let MountRequest::Bind(quoted) =
            parse("type=bind,\"source=/a,b\",target=/c,ro=false").unwrap()
        else {
            panic!("a bind");
        };
        assert_eq!(quoted.source.to_str(), Some("/a,b"));
        assert!(!quoted.read_only);
        let MountRequest::Tmpfs(memory) =
            parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770,ro").unwrap()
        else {
            panic!("a tmpfs");
        };
        assert_eq!(memory.options, ["ro", "size=1048576", "mode=1770"]);
    }

    #[test]
    fn mounts_refused() {
        for (text, part) in [
            ("type=bind,src=/a", "target is required"),
            ("type=bind,dst=/a", "source is required"),
            (
                "type=foo,dst=/a",
                "mount type \"foo\" is not in this version",
            ),
            ("src=data,dst=/a", "volumes come with a later version"),
            (
                "type=bind,src=/a,dst=/b,what=1",
                "unknown option 'what' in 'what=1'",
            ),
            (
                "type=bind,src,dst=/b",
                "invalid field 'src' must be a key=value pair",
            ),
            ("type=bind,src=/a,dst=/b,ro=maybe", "use true or false"),
            (
                "type=bind,src=/a,dst=/b,bind-propagation=x",
                "invalid value for bind-propagation: x",
            ),
            ("type=bind,src=/a,dst=/b,tmpfs-size=1", "cannot mix"),
            ("type=tmpfs,src=/a,dst=/b", "source must not be given"),
            (
                "type=tmpfs,dst=/b,tmpfs-mode=9",
                "invalid value for tmpfs-mode: 9",
            ),
            ("type=bind,\"src=/a", "a quote is not closed"),
        ] {
            let message = mount(text, Path::new("/w")).unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
