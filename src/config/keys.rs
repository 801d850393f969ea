//! The table of all keys: path, type, documentation, how a value is read from its text and shown again. The one source
//! for the file, the environment, the command line and the list of known keys. `secrets` is not in
//! it: its names are the administrator's own, and it is read from the file alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::settings::{Config, Mode};
use crate::quantity::{show_duration, show_size};
use crate::reading::{describe, duration, size, whole};

/// What a value of a key looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// Such as `15s`.
    Duration,
    /// Such as `64M`.
    Size,
    /// `auto`, `require` or `off`.
    Mode,
    /// An absolute path.
    Path,
    /// An absolute path, or `auto`.
    AutoPath,
    /// An IP address and a port.
    Address,
}

impl Form {
    /// The word in documentation and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "whole number",
            Self::Switch => "true or false",
            Self::Duration => "duration",
            Self::Size => "size",
            Self::Mode => "auto, require or off",
            Self::Path => "absolute path",
            Self::AutoPath => "absolute path or auto",
            Self::Address => "address and port",
        }
    }

    /// The text of a YAML scalar of this form.
    ///
    /// # Errors
    /// What was found, where it is a scalar of another type or none at all.
    pub(crate) fn text(self, value: &Value) -> Result<String, String> {
        match (self, value) {
            (Self::Switch, Value::Bool(_)) | (Self::Number | Self::Size, Value::Number(_)) => Ok(value.to_string()),
            (Self::Switch | Self::Number, _) | (_, Value::Null | Value::Array(_) | Value::Object(_)) => {
                Err(describe(value))
            }
            (_, Value::String(text)) => Ok(text.clone()),
            (_, scalar) => Err(format!("{} without quotes", describe(scalar))),
        }
    }
}

/// One key of the configuration.
pub struct Key {
    /// Dotted, such as `sandbox.user`.
    pub path: &'static str,
    /// What its value looks like.
    pub form: Form,
    /// One line for people.
    pub doc: &'static str,
    /// Sets it from text; the error says what to give instead.
    pub(crate) set: fn(&mut Config, &str) -> Result<(), String>,
    /// As it would be written; none where it is left open.
    pub(crate) show: fn(&Config) -> Option<String>,
}

impl Key {
    /// The environment variable that sets it, such as `DISPATCHER_SANDBOX_USER`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("DISPATCHER_{}", self.path.replace('.', "_").to_ascii_uppercase())
    }

    /// Its value as it would be written in the file; none where it is left open.
    #[must_use]
    pub fn value(&self, config: &Config) -> Option<String> {
        (self.show)(config)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("path", &self.path).field("form", &self.form).finish_non_exhaustive()
    }
}

/// The longest wait that may be configured.
const DAY: u64 = 86_400_000;

macro_rules! key {
    ($first:ident $(. $second:ident)?: $form:ident = $read:ident($($bound:expr),*), $doc:literal) => {
        Key {
            path: concat!(stringify!($first) $(, ".", stringify!($second))?),
            form: Form::$form,
            doc: $doc,
            set: |config, text| {
                config.$first$(.$second)? = $read(text $(, $bound)*)?.into_setting();
                Ok(())
            },
            show: |config| Shown::shown(&config.$first$(.$second)?, Form::$form),
        }
    };
}

/// All keys, in the order of the documentation.
pub static KEYS: &[Key] = &[
    key!(remote: Text = remote_name(), "name of the git remote that requests come from and results go to"),
    key!(branch: Text = branch_name(), "branch that carries requests and results"),
    key!(fetch_interval: Duration = duration(100, DAY), "how often the remote is looked at"),
    key!(scan_interval: Duration = duration(100, DAY), "how often the inbox is scanned; events are only hints"),
    key!(git_timeout: Duration = duration(100, DAY), "deadline of one network operation of git"),
    key!(push_retries: Number = whole(0, 1_000), "pushes tried again before waiting for the next result or fetch"),
    key!(https.token_file: Path = path(), "file with the access token, or `user:password`, of an https remote"),
    key!(https.token_credential: Text = credential(), "the same as a systemd credential, where there is no file"),
    key!(https.ca_file: Path = path(), "certificates that an https remote is trusted by"),
    key!(workers: Number = whole(1, 256), "runs at the same time"),
    key!(drain_timeout: Duration = duration(0, DAY), "how long a stop waits for running handlers"),
    key!(keep_recent: Number = whole(1, 1_000_000), "runs that stay on the branch; older ones are archived"),
    key!(identity.name: Text = person(), "author and committer of result commits"),
    key!(identity.email: Text = person(), "their address; default `dispatcher@HOST`"),
    key!(sandbox.user: Text = user(), "user that handlers run as; default `nobody` under root, else the dispatcher's"),
    key!(sandbox.allow_root: Switch = switch(), "whether handlers may run as root"),
    key!(sandbox.cgroup: Mode = mode(), "control group v2 for limits and for ending whole trees"),
    key!(sandbox.cgroup_path: AutoPath = auto_path(), "delegated control group to work in"),
    key!(sandbox.landlock: Mode = mode(), "Landlock for file access"),
    key!(sandbox.seccomp: Mode = mode(), "system call filter"),
    key!(log_limit: Size = size(4 << 10, 16 << 30), "bytes of one run's log, over all attempts"),
    key!(log_rotate.size: Size = size(4 << 10, 16 << 30), "bytes after which `dispatcher.log` is rotated"),
    key!(log_rotate.keep: Number = whole(1, 1_000), "rotated files that are kept"),
    key!(min_free: Size = size(0, 1 << 50), "free disk space below which new work waits; 0 switches it off"),
    key!(listen: Address = address(), "where metrics, health and the push hook are served; default nowhere"),
    key!(webhook_secret_file: Path = path(), "file with the secret of the push hook"),
    key!(git_pause: Switch = switch(), "whether `requests/.dispatcher.yml` in git can pause intake"),
    key!(lock_dir: AutoPath = auto_path(), "folder of the resource locks"),
];

/// From what was read to what is kept.
trait IntoSetting<T> {
    fn into_setting(self) -> T;
}

macro_rules! kept_as_it_is {
    ($($name:ty),*) => {$(impl IntoSetting<$name> for $name { fn into_setting(self) -> $name { self } })*};
}
kept_as_it_is!(String, Duration, u32, u64, bool, Mode, Option<PathBuf>);

impl IntoSetting<usize> for u32 {
    fn into_setting(self) -> usize {
        usize::try_from(self).unwrap_or(usize::MAX)
    }
}

impl<T> IntoSetting<Option<T>> for T {
    fn into_setting(self) -> Option<T> {
        Some(self)
    }
}

/// From what is kept to how it is written.
trait Shown {
    fn shown(&self, form: Form) -> Option<String>;
}

macro_rules! shown_as_text {
    ($($name:ty),*) => {$(impl Shown for $name {
        fn shown(&self, _: Form) -> Option<String> { Some(self.to_string()) }
    })*};
}
shown_as_text!(String, u32, usize, bool, SocketAddr);

impl Shown for Duration {
    fn shown(&self, _: Form) -> Option<String> {
        Some(show_duration(*self))
    }
}

impl Shown for u64 {
    fn shown(&self, _: Form) -> Option<String> {
        Some(show_size(*self))
    }
}

impl Shown for PathBuf {
    fn shown(&self, _: Form) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl Shown for Mode {
    fn shown(&self, _: Form) -> Option<String> {
        let word = match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        };
        Some(word.to_owned())
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self, form: Form) -> Option<String> {
        match self {
            Some(value) => value.shown(form),
            None => (form == Form::AutoPath).then(|| "auto".to_owned()),
        }
    }
}

/// A name below `$CREDENTIALS_DIRECTORY`.
pub(super) fn credential(text: &str) -> Result<String, String> {
    let formed = !text.is_empty()
        && text.len() <= 255
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b':');
    if formed { Ok(text.to_owned()) } else { Err("give the name of a systemd credential".to_owned()) }
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "give `true` or `false`".to_owned())
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "auto" => Ok(Mode::Auto),
        "require" => Ok(Mode::Require),
        "off" => Ok(Mode::Off),
        _ => Err("give `auto`, `require` or `off`".to_owned()),
    }
}

/// An absolute path: a relative one would mean another file in every folder that the dispatcher is started from.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if Path::new(text).is_absolute() && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err("give an absolute path".to_owned())
}

fn auto_path(text: &str) -> Result<Option<PathBuf>, String> {
    if text == "auto" {
        return Ok(None);
    }
    path(text).map(Some).map_err(|_| "give an absolute path or `auto`".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an IP address and a port, such as `127.0.0.1:9477`".to_owned())
}

fn person(text: &str) -> Result<String, String> {
    let fit = !text.trim().is_empty() && !text.chars().any(|c| c.is_control() || "<>".contains(c));
    if fit { Ok(text.to_owned()) } else { Err("give one line of text without `<` and `>`".to_owned()) }
}

fn user(text: &str) -> Result<String, String> {
    let fit = !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-$@+".contains(&b));
    if fit { Ok(text.to_owned()) } else { Err("give the name or number of a user".to_owned()) }
}

fn remote_name(text: &str) -> Result<String, String> {
    if is_ref_name(text) {
        return Ok(text.to_owned());
    }
    Err("give the name of a git remote, such as `origin`; `git remote -v` lists them".to_owned())
}

fn branch_name(text: &str) -> Result<String, String> {
    if text == "dispatcher" || text == "dispatcher/archive" {
        return Err("the archive of old runs lives under this name, take another one".to_owned());
    }
    if is_ref_name(text) && text != "HEAD" && !text.starts_with("refs/") {
        return Ok(text.to_owned());
    }
    Err("give the name of a git branch, such as `main`, without `refs/heads/`".to_owned())
}

/// What git allows as a part of a ref name, and no option of a command.
fn is_ref_name(text: &str) -> bool {
    let component =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock") && !part.ends_with('.');
    let character = |c: char| !c.is_control() && !" ~^:?*[\\".contains(c);
    !text.starts_with('-')
        && text != "@"
        && text.len() <= 200
        && !text.contains("..")
        && !text.contains("@{")
        && text.chars().all(character)
        && text.split('/').all(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> &'static Key {
        KEYS.iter().find(|key| key.path == path).unwrap()
    }

    #[test]
    fn names_are_unique_everywhere() {
        let mut names: Vec<String> = KEYS.iter().map(Key::variable).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
        assert_eq!(key("sandbox.cgroup_path").variable(), "DISPATCHER_SANDBOX_CGROUP_PATH");
    }

    #[test]
    fn what_is_shown_reads_back() {
        let config = Config::default();
        for key in KEYS {
            if let Some(text) = key.value(&config) {
                let mut again = config.clone();
                (key.set)(&mut again, &text).unwrap();
                assert_eq!(again, config, "{}", key.path);
            }
        }
        assert_eq!(key("lock_dir").value(&config).unwrap(), "auto");
        assert_eq!(key("min_free").value(&config).unwrap(), "1G");
        assert_eq!(key("sandbox.user").value(&config), None);
    }

    #[test]
    fn values_have_bounds() {
        for (path, text, good) in [
            ("workers", "1", true),
            ("workers", "256", true),
            ("workers", "0", false),
            ("workers", "257", false),
            ("workers", "-1", false),
            ("workers", "4.0", false),
            ("fetch_interval", "100ms", true),
            ("fetch_interval", "0s", false),
            ("fetch_interval", "2d", false),
            ("fetch_interval", "15", false),
            ("drain_timeout", "0s", true),
            ("log_limit", "4K", true),
            ("log_limit", "1K", false),
            ("log_limit", "17G", false),
            ("min_free", "0", true),
            ("listen", "[::1]:80", true),
            ("listen", "localhost:80", false),
            ("listen", "9477", false),
            ("lock_dir", "auto", true),
            ("lock_dir", "locks", false),
            ("https.token_file", "auto", false),
            ("https.token_credential", "git-token", true),
            ("https.token_credential", "../token", false),
            ("sandbox.cgroup", "require", true),
            ("sandbox.cgroup", "on", false),
            ("sandbox.user", "executor", true),
            ("sandbox.user", "1000", true),
            ("sandbox.user", "a b", false),
            ("sandbox.user", "-x", false),
            ("identity.email", "a@b", true),
            ("identity.email", "<a@b>", false),
            ("identity.name", " ", false),
        ] {
            assert_eq!((key(path).set)(&mut Config::default(), text).is_ok(), good, "{path}: {text}");
        }
    }

    #[test]
    fn remotes_and_branches_are_names_that_git_takes() {
        for good in ["main", "ops/requests", "v1.2", "ü", "a-b_c", "dispatcher/x"] {
            assert!(branch_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=x",
            "a..b",
            "a b",
            "a\nb",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "a@{b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "HEAD",
            "refs/heads/main",
            "dispatcher",
            "dispatcher/archive",
            &"x".repeat(201),
        ] {
            assert!(branch_name(bad).is_err(), "{bad}");
        }
        assert!(remote_name("origin").is_ok());
        assert!(remote_name("ssh://host/x").is_err());
        assert!(remote_name("-oProxyCommand=x").is_err());
    }
}
