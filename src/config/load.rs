//! Puts the configuration together: flag over environment over file over default, all problems at once, and where each
//! value came from. Refuses a file that lies in the dispatch repository.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::keys::{KEYS, Key};
use super::secrets;
use super::settings::Config;
use crate::diagnostic::{Code, Diagnostic};
use crate::reading::{Reading, child, suggestion};
use crate::text::nearest;
use crate::yaml::{self, Limits, Part};

/// Where the file is looked for when nobody names one.
pub const DEFAULT_FILE: &str = "/etc/dispatcher/config.yml";

/// Names the file in the environment.
pub const FILE_VARIABLE: &str = "DISPATCHER_CONFIG";

/// Variables with our prefix that are no keys: the file's path, and the folders of handlers.
const OTHER_VARIABLES: [&str; 2] = [FILE_VARIABLE, "DISPATCHER_HANDLERS"];

/// A file without a single key: it sets nothing.
const EMPTY: Code = "E0124";

/// More than any configuration needs.
const MAX_FILE: u64 = 1 << 20;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File {
        /// 1-based.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "file, line {line}"),
            Self::Env { name } => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("command line"),
        }
    }
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Every value.
    pub config: Config,
    /// Where each came from, by dotted path: every key of [`KEYS`], and `secrets.NAME` for each secret.
    pub origins: BTreeMap<String, Origin>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads the configuration. `flags` are dotted paths and values, `env` the whole environment, `file` the one named
    /// by `--config`.
    ///
    /// # Errors
    /// All problems at once, codes E08xx; the program exits with 78.
    pub fn load(
        flags: &[(String, String)],
        env: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Loaded, Vec<Diagnostic>> {
        load(flags, env, file, Path::new(DEFAULT_FILE))
    }
}

impl Loaded {
    /// Refuses a configuration that lies in the repository, or is reached through it: who may write requests may not
    /// change limits, users or secrets.
    ///
    /// # Errors
    /// E0805 with the file and the repository.
    pub fn refuse_inside(&self, repo: &Path) -> Result<(), Diagnostic> {
        let Some(file) = &self.file else { return Ok(()) };
        let repo = repo.canonicalize().unwrap_or_else(|_| repo.to_path_buf());
        let folder = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inside = [file.canonicalize(), folder.canonicalize()].into_iter().flatten().any(|at| at.starts_with(&repo));
        if !inside {
            return Ok(());
        }
        Err(Diagnostic::new("E0805", format!("the configuration `{}` lies in the dispatch repository", file.display()))
            .note(format!("the repository is {}", repo.display()))
            .note("who may write requests may not change limits, users or secrets")
            .help(format!("move it to {DEFAULT_FILE}, or name another file with --config")))
    }
}

fn load(
    flags: &[(String, String)],
    env: impl Iterator<Item = (String, String)>,
    file: Option<&Path>,
    default_file: &Path,
) -> Result<Loaded, Vec<Diagnostic>> {
    let env: BTreeMap<String, String> =
        env.filter(|(name, value)| name.starts_with("DISPATCHER_") && !value.is_empty()).collect();
    let mut loaded = Loaded {
        config: Config::default(),
        origins: KEYS.iter().map(|key| (key.path.to_owned(), Origin::Default)).collect(),
        file: None,
    };
    let mut problems = Vec::new();
    let named = file.map(Path::to_path_buf).or_else(|| env.get(FILE_VARIABLE).map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| default_file.to_path_buf());
    match read_file(&path) {
        Ok(bytes) => {
            loaded.file = Some(path.clone());
            problems.extend(from_file(&mut loaded, &path, &bytes));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {}
        Err(error) => problems.push(unreadable(&path, &error, file.is_none() && named.is_some())),
    }
    from_env(&mut loaded, &env, &mut problems);
    from_flags(&mut loaded, flags, &mut problems);
    problems.extend(contradictions(&loaded));
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 1M"));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error, by_env: bool) -> Diagnostic {
    let problem = Diagnostic::new("E0801", format!("cannot read the configuration `{}`: {error}", path.display()))
        .help(format!("name a file that this user can read, or none: then {DEFAULT_FILE} counts where it exists"));
    if by_env { problem.note(format!("named by the environment variable {FILE_VARIABLE}")) } else { problem }
}

fn from_file(loaded: &mut Loaded, path: &Path, bytes: &[u8]) -> Vec<Diagnostic> {
    let doc = match yaml::read(bytes, &path.display().to_string(), Limits::CONFIG) {
        Ok(doc) => doc,
        Err(problem) if problem.code == EMPTY => return Vec::new(),
        Err(problem) => return vec![Diagnostic { code: "E0802", ..problem }],
    };
    let mut reading = Reading::new(&doc, "E0803", "E0804");
    let Some(members) = reading.mapping("", &doc.value, "the configuration") else { return reading.finish() };
    reading.refuse_unknown("", members, &top_names(), "");
    for (name, value) in members {
        let at = child("", name);
        if name == "secrets" {
            loaded.config.secrets = secrets::read(&mut reading, &at, value);
            for secret in loaded.config.secrets.keys() {
                let line = reading.place(&child(&at, secret), Part::Key).line;
                loaded.origins.insert(format!("secrets.{secret}"), Origin::File { line });
            }
        } else if let Some(key) = find(name) {
            set_from_file(loaded, &mut reading, key, &at, value);
        } else if top_names().contains(&name.as_str())
            && let Some(members) = reading.mapping(&at, value, name)
        {
            let prefix = format!("{name}.");
            let known: Vec<&str> = KEYS.iter().filter_map(|key| key.path.strip_prefix(&prefix)).collect();
            reading.refuse_unknown(&at, members, &known, name);
            for (inner, value) in members {
                if let Some(key) = find(&format!("{prefix}{inner}")) {
                    set_from_file(loaded, &mut reading, key, &child(&at, inner), value);
                }
            }
        }
    }
    reading.finish()
}

/// The keys of the file's top level.
fn top_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS.iter().filter_map(|key| key.path.split('.').next()).chain(["secrets"]).collect();
    names.dedup();
    names
}

fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

fn set_from_file(loaded: &mut Loaded, reading: &mut Reading<'_>, key: &Key, pointer: &str, value: &Value) {
    let outcome = match key.form.text(value) {
        Ok(text) => set(&mut loaded.config, key, &text),
        Err(found) => Err(format!("`{}` cannot be {found}: {}", key.path, hint(key))),
    };
    match outcome {
        Ok(()) => {
            let line = reading.place(pointer, Part::Value).line;
            loaded.origins.insert(key.path.to_owned(), Origin::File { line });
        }
        Err(message) => reading.bad(pointer, message),
    }
}

fn set(config: &mut Config, key: &Key, text: &str) -> Result<(), String> {
    (key.set)(config, text).map_err(|hint| format!("`{}` cannot be `{}`: {hint}", key.path, yaml::cut(text)))
}

/// What to give for a key: what it answers to an empty text, which none takes.
fn hint(key: &Key) -> String {
    (key.set)(&mut Config::default(), "").err().unwrap_or_default()
}

fn from_env(loaded: &mut Loaded, env: &BTreeMap<String, String>, problems: &mut Vec<Diagnostic>) {
    for (name, text) in env.iter().filter(|(name, _)| !OTHER_VARIABLES.contains(&name.as_str())) {
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *name) {
            match set(&mut loaded.config, key, text) {
                Ok(()) => _ = loaded.origins.insert(key.path.to_owned(), Origin::Env { name: name.clone() }),
                Err(message) => problems.push(
                    Diagnostic::new("E0804", message).note(format!("it is set by the environment variable {name}")),
                ),
            }
            continue;
        }
        let problem = Diagnostic::new("E0803", format!("unknown environment variable `{name}`"));
        problems.push(if name.starts_with("DISPATCHER_SECRETS") {
            problem.note("secrets are configured in the file alone")
        } else {
            let variables: Vec<String> = KEYS.iter().map(Key::variable).collect();
            let near = nearest(name, variables.iter().map(String::as_str));
            problem.note("every variable that starts with `DISPATCHER_` is a key of the configuration").help(
                near.map_or_else(
                    || format!("known: {}", variables.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                ),
            )
        });
    }
}

fn from_flags(loaded: &mut Loaded, flags: &[(String, String)], problems: &mut Vec<Diagnostic>) {
    for (path, text) in flags {
        let Some(key) = find(path) else {
            let known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
            problems.push(Diagnostic::new("E0803", format!("unknown key `{path}`")).help(suggestion(path, &known)));
            continue;
        };
        match set(&mut loaded.config, key, text) {
            Ok(()) => _ = loaded.origins.insert(path.clone(), Origin::Flag),
            Err(message) => problems.push(Diagnostic::new("E0804", message).note("it is set on the command line")),
        }
    }
}

/// What each value allows alone, and not all together.
fn contradictions(loaded: &Loaded) -> Option<Diagnostic> {
    let sandbox = &loaded.config.sandbox;
    if sandbox.allow_root || !matches!(sandbox.user.as_deref(), Some("root" | "0")) {
        return None;
    }
    let problem = Diagnostic::new("E0804", "`sandbox.user` cannot be `root` while `sandbox.allow_root` is `false`")
        .help("name an ordinary user, such as `executor`");
    Some(loaded.placed(problem, "sandbox.user"))
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
