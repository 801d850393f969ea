//! `handlers/index.yml`: bytes to one route per line, or all problems with their places. Knows every key of the file and
//! no other file: whether a handler is there is the business of `table`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::fields::{Fields, number, quantity, switch, text, word};
use super::route::{
    Container, ContainerEngine, Folder, HandlerSource, Network, OnCrash, Retry, RetryOn, Route, SecretsAs,
};
use super::template::Template;
use crate::diagnostic::{Diagnostic, Place};
use crate::reading::{Reading, duration, size, variable_name, whole};
use crate::request::Kind;
use crate::yaml::{self, Limits, Part};

/// The file, relative to the repository.
pub(super) const FILE: &str = "handlers/index.yml";

/// One line of the table, and where its file is named.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) route: Route,
    pub(super) place: Place,
}

/// Reads the file. A kind that the folder scan finds gets the route of [`Index::scanned`].
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) lines: BTreeMap<Kind, Line>,
    defaults: Policy,
}

impl Default for Index {
    fn default() -> Self {
        Self { lines: BTreeMap::new(), defaults: Policy::builtin() }
    }
}

const TOP: [&str; 3] = ["version", "defaults", "handlers"];
const POLICY: [&str; 10] =
    ["timeout", "grace", "memory", "cpus", "pids", "network", "sandbox", "max_queue_age", "retry", "on_crash"];
const OWN: [&str; 9] =
    ["run", "resource", "write", "env", "secrets", "secrets_as", "dry_run", "container", "description"];

impl Index {
    /// Reads the file's bytes.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Vec<Diagnostic>> {
        let doc = yaml::read(bytes, FILE, Limits::CONFIG).map_err(|problem| vec![problem])?;
        let mut reading = Reading::new(&doc, "E0211", "E0212");
        let index = Self::top(&mut reading, &doc.value).unwrap_or_default();
        let problems = reading.finish();
        if problems.is_empty() { Ok(index) } else { Err(problems) }
    }

    fn top<'d>(reading: &mut Reading<'d>, value: &'d Value) -> Option<Self> {
        let mut top = Fields::open(reading, String::new(), "", value, &TOP)?;
        let version = |value: &Value| (value.as_u64() == Some(1)).then_some(()).ok_or("give `1`".to_owned());
        if !top.has("version") {
            top.bad(format!("`version` is missing in {FILE}: its first line is `version: 1`"));
        }
        top.get("version", version);
        let mut defaults = Policy::builtin();
        if let Some(mut fields) = top.inner("defaults", &POLICY) {
            defaults.narrow(&mut fields);
        }
        let mut lines = BTreeMap::new();
        let kinds = top.get("handlers", |value| value.as_object().ok_or_else(|| "give kinds and handlers".to_owned()));
        let names: Vec<&str> = kinds.into_iter().flat_map(|kinds| kinds.keys()).map(String::as_str).collect();
        if let Some(mut handlers) = kinds.and_then(|_| top.inner("handlers", &names)) {
            for name in names {
                match name.parse::<Kind>() {
                    Ok(kind) => lines.extend(line(&mut handlers, &kind, &defaults).map(|line| (kind, line))),
                    Err(error) => handlers.bad_key(name, error.to_string()),
                }
            }
        }
        Some(Self { lines, defaults })
    }

    /// The route of a kind that has no line.
    pub(super) fn scanned(&self, kind: Kind, file: HandlerSource) -> Route {
        self.defaults.clone().route(kind, file)
    }
}

fn line(handlers: &mut Fields<'_, '_>, kind: &Kind, defaults: &Policy) -> Option<Line> {
    let name = kind.as_str();
    if handlers.members().get(name).is_some_and(Value::is_string) {
        let path = handlers.get(name, text(inside))?;
        let place = handlers.place(name, Part::Value);
        return Some(Line { route: defaults.clone().route(kind.clone(), builtin(path)), place });
    }
    let allowed: Vec<&str> = OWN.into_iter().chain(POLICY).collect();
    let mut fields = handlers.inner(name, &allowed)?;
    if !fields.has("run") {
        fields.bad(format!("`{name}` has no `run`: name its file in handlers/, such as `run: {name}.sh`"));
    }
    let path = fields.get("run", text(inside));
    let place = fields.place("run", Part::Value);
    let mut policy = defaults.clone();
    policy.narrow(&mut fields);
    let mut route = policy.route(kind.clone(), builtin(path.clone().unwrap_or_default()));
    own(&mut fields, &mut route);
    path.map(|_| Line { route, place })
}

fn own(fields: &mut Fields<'_, '_>, route: &mut Route) {
    fields.set("resource", &mut route.resource, text(|text| Template::parse(text).map(Some)));
    route.write = fields.list("write", |value| writable(value.as_str().unwrap_or_default())).unwrap_or_default();
    route.secrets = fields.list("secrets", secret).unwrap_or_default();
    fields.set("secrets_as", &mut route.secrets_as, word(&[("env", SecretsAs::Env), ("file", SecretsAs::File)]));
    fields.set("dry_run", &mut route.dry_run, switch);
    fields.set("description", &mut route.description, text(|text| described(text).map(Some)));
    if let Some(mut inner) = fields.inner("env", &names(fields.members().get("env"))) {
        route.env = variables(&mut inner);
    }
    for twice in route.secrets.iter().filter(|secret| route.env.contains_key(*secret)) {
        fields.bad_key("secrets", format!("`{twice}` is in `env` and in `secrets`"));
    }
    if let Some(mut inner) = fields.inner("container", &["image", "engine"]) {
        route.container = container(&mut inner);
    }
}

fn names(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_object).into_iter().flat_map(|members| members.keys()).map(String::as_str).collect()
}

fn variables(fields: &mut Fields<'_, '_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for name in fields.members().keys() {
        if let Err(hint) = variable_name(name, false) {
            fields.bad_key(name, format!("a variable cannot be called `{name}`: {hint}"));
        }
        let read = |value: &Value| value.as_str().map(str::to_owned).ok_or("give text, in double quotes".to_owned());
        env.extend(fields.get(name, read).map(|value| (name.clone(), value)));
    }
    env
}

fn container(fields: &mut Fields<'_, '_>) -> Option<Container> {
    let image = |text: &str| {
        let fit = !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_graphic());
        fit.then(|| text.to_owned()).ok_or_else(|| "give an image, such as `registry.example/deploy:1`".to_owned())
    };
    if !fields.has("image") {
        fields.bad("a `container` needs an `image`".to_owned());
    }
    let mut engine = ContainerEngine::Podman;
    fields.set(
        "engine",
        &mut engine,
        word(&[("podman", ContainerEngine::Podman), ("docker", ContainerEngine::Docker)]),
    );
    fields.get("image", text(image)).map(|image| Container { image, engine })
}

/// What may also stand under `defaults`.
#[derive(Clone, Debug)]
struct Policy {
    timeout: Duration,
    grace: Duration,
    memory: u64,
    cpus: Option<u32>,
    pids: u32,
    network: Network,
    strict: bool,
    max_queue_age: Option<Duration>,
    retry: Retry,
    on_crash: OnCrash,
}

impl Policy {
    fn builtin() -> Self {
        Self {
            timeout: Duration::from_secs(900),
            grace: Duration::from_secs(10),
            memory: 512 << 20,
            cpus: None,
            pids: 256,
            network: Network::Host,
            strict: false,
            max_queue_age: None,
            retry: Retry::never(),
            on_crash: OnCrash::Rerun,
        }
    }

    /// Takes over what the mapping says.
    fn narrow(&mut self, fields: &mut Fields<'_, '_>) {
        const DAY: u64 = 86_400_000;
        fields.set("timeout", &mut self.timeout, text(|text| duration(text, 100, 30 * DAY)));
        fields.set("grace", &mut self.grace, text(|text| duration(text, 0, 3_600_000)));
        fields.set("memory", &mut self.memory, quantity(|text| size(text, 1 << 20, 16 << 40)));
        fields.set("cpus", &mut self.cpus, |value| processors(value).map(Some));
        fields.set("pids", &mut self.pids, number(|text| whole(text, 1, 100_000)));
        fields.set("network", &mut self.network, word(&[("none", Network::None), ("host", Network::Host)]));
        fields.set("sandbox", &mut self.strict, word(&[("strict", true), ("auto", false)]));
        fields.set("max_queue_age", &mut self.max_queue_age, text(|text| duration(text, 100, 3_650 * DAY).map(Some)));
        fields.set("on_crash", &mut self.on_crash, word(&[("rerun", OnCrash::Rerun), ("fail", OnCrash::Fail)]));
        if let Some(mut inner) = fields.inner("retry", &["attempts", "backoff", "on"]) {
            let mut retry = Retry { attempts: 3, ..Retry::never() };
            inner.set("attempts", &mut retry.attempts, number(|text| whole(text, 1, 100)));
            inner.set("backoff", &mut retry.backoff, text(|text| duration(text, 0, DAY)));
            if let Some(on) = inner.list("on", retry_on) {
                retry.on = on;
            }
            self.retry = retry;
        }
    }

    fn route(self, kind: Kind, file: HandlerSource) -> Route {
        Route {
            kind,
            file,
            resource: None,
            timeout: self.timeout,
            grace: self.grace,
            memory: self.memory,
            cpus: self.cpus,
            pids: self.pids,
            network: self.network,
            write: Vec::new(),
            env: BTreeMap::new(),
            secrets: Vec::new(),
            secrets_as: SecretsAs::Env,
            strict: self.strict,
            max_queue_age: self.max_queue_age,
            retry: self.retry,
            on_crash: self.on_crash,
            dry_run: false,
            container: None,
            description: None,
        }
    }
}

fn builtin(path: String) -> HandlerSource {
    HandlerSource { folder: Folder::Builtin, path }
}

/// A path that stays in its folder.
fn inside(path: &str) -> Result<String, String> {
    let fit = !path.is_empty()
        && !path.ends_with('/')
        && !path.contains("//")
        && path.split('/').all(|part| part != "." && part != "..")
        && Path::new(path).is_relative()
        && path != "index.yml";
    fit.then(|| path.to_owned()).ok_or_else(|| "give a file in handlers/, such as `deploy.sh`".to_owned())
}

/// A path that a handler may be allowed to write to.
fn writable(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    if !plain || path.parent().is_none() {
        return Err("give an absolute path without `..`, and not `/` itself".to_owned());
    }
    if ["/proc", "/sys", "/dev"].iter().any(|kernel| path.starts_with(kernel)) {
        return Err("a handler cannot be let into `/proc`, `/sys` and `/dev`".to_owned());
    }
    Ok(path.to_path_buf())
}

fn secret(value: &Value) -> Result<String, String> {
    let name = value.as_str().unwrap_or_default();
    variable_name(name, true).map(|()| name.to_owned())
}

fn described(text: &str) -> Result<String, String> {
    let fit = !text.trim().is_empty() && text.chars().count() <= 200 && !text.trim().chars().any(char::is_control);
    fit.then(|| text.trim().to_owned()).ok_or_else(|| "give one line of up to 200 characters".to_owned())
}

fn processors(value: &Value) -> Result<u32, String> {
    let thousandths = value.as_f64().map(|cpus| (cpus * 1_000.0).round()).filter(|m| (10.0..=1_024_000.0).contains(m));
    let whole = thousandths.and_then(|number| format!("{number:.0}").parse().ok());
    whole.ok_or_else(|| "give a number from 0.01 to 1024, such as `1.5`".to_owned())
}

fn retry_on(value: &Value) -> Result<RetryOn, String> {
    let words =
        [("failed", RetryOn::Failed), ("timed_out", RetryOn::TimedOut), ("out_of_memory", RetryOn::OutOfMemory)];
    let code = value.as_u64().and_then(|code| u8::try_from(code).ok()).filter(|code| *code > 0).map(RetryOn::Code);
    let hint = "give an exit code from 1 to 255, `failed`, `timed_out` or `out_of_memory`";
    code.map_or_else(|| word(&words)(value), Ok).map_err(|_| hint.to_owned())
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
