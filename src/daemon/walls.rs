//! What handlers are held by on this machine, in words: what is hidden from them, what is missing and how to get it, and
//! whom a missing part keeps from running. Knows; the launcher does.

use std::path::{Path, PathBuf};

use crate::config::places::Places;
use crate::config::{Config, Mode, SecretSource};
use crate::diagnostic::Diagnostic;
use crate::launcher::{Insist, User, Walls};
use crate::repo::Repo;
use crate::request::Kind;
use crate::router::{Network, Route};

/// How much the configuration insists.
#[must_use]
pub const fn insist(mode: Mode) -> Insist {
    match mode {
        Mode::Auto => Insist::Auto,
        Mode::Require => Insist::Require,
        Mode::Off => Insist::Off,
    }
}

/// What no handler may read, whatever its user may: the repository, the local state with all work folders, the socket,
/// and where secrets come from.
#[must_use]
pub fn hidden(repo: &Repo, config: &Config, places: &Places, memory: Option<&PathBuf>) -> Vec<PathBuf> {
    let own = [repo.root(), repo.common(), &places.state.path, &places.runtime.path];
    let own = own.map(Path::to_owned);
    let secrets = config.secrets.values().filter_map(|secret| match &secret.source {
        SecretSource::File(path) => Some(path.clone()),
        SecretSource::Env(_) | SecretSource::Credential(_) => None,
    });
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
    let files = [&config.https.token_file, &config.webhook_secret_file].into_iter().flatten().cloned();
    own.into_iter().chain(secrets).chain(credentials).chain(files).chain(memory.cloned()).collect()
}

/// One part of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name for people.
    pub name: &'static str,
    /// It is there.
    pub there: bool,
    /// How to get it.
    pub help: &'static str,
}

/// All parts, as they are for the handlers of this machine.
#[must_use]
pub fn parts(walls: Walls, user: &User) -> [Part; 4] {
    let part = |name, there, help| Part { name, there, help };
    [
        part("a user of their own", user.switch, "start the dispatcher as root (systemd does), and it switches users"),
        part("control groups", false, "no version has them yet; memory and processes are held by sampling"),
        part(
            "Landlock",
            walls.landlock.is_some(),
            "a kernel from 5.13 on with `landlock` in `lsm=`, allowed in a container, and `sandbox.landlock: auto`",
        ),
        part(
            "a filter of system calls",
            walls.seccomp,
            "a kernel with `CONFIG_SECCOMP_FILTER`, allowed in a container, and `sandbox.seccomp: auto`",
        ),
    ]
}

/// One warning for each part that the configuration wants and that this machine does not give.
#[must_use]
pub fn warnings(walls: Walls, config: &Config, user: &User) -> Vec<Diagnostic> {
    let [_, _, landlock, seccomp] = parts(walls, user);
    let wanted = [(landlock, config.sandbox.landlock), (seccomp, config.sandbox.seccomp)];
    let missing = wanted.into_iter().filter(|(part, mode)| !part.there && *mode == Mode::Auto);
    missing
        .map(|(part, _)| {
            let message = format!("handlers are not held by {}: this machine does not give it", part.name);
            Diagnostic::new("E0612", message).help(part.help)
        })
        .collect()
}

/// What a handler asks for and does not get, and runs without, because that only narrows what it may do.
#[must_use]
pub fn not_held(route: &Route, walls: Walls) -> Vec<&'static str> {
    let network = route.network == Network::None && !walls.no_network();
    let asked = [(network, "network: none"), (route.cpus.is_some(), "cpus")];
    asked.into_iter().filter_map(|(missing, word)| missing.then_some(word)).collect()
}

/// A handler that asks for all parts runs with all parts.
///
/// # Errors
/// E0602, naming what is missing.
pub fn strict(kind: &Kind, route: &Route, walls: Walls, user: &User) -> Result<(), Box<Diagnostic>> {
    let mut parts = parts(walls, user).to_vec();
    if route.network == Network::None {
        let help = "start the dispatcher as root, or let it filter system calls";
        parts.push(Part { name: "no network", there: walls.no_network(), help });
    }
    let names = |there: bool| {
        let names: Vec<_> = parts.iter().filter(|part| part.there == there).map(|part| part.name).collect();
        names.join(", ")
    };
    if !route.strict || parts.iter().all(|part| part.there) {
        return Ok(());
    }
    let message = format!("handler `{kind}` asks for `sandbox: strict`, and this is missing: {}", names(false));
    let mut problem = Diagnostic::new("E0602", message);
    if parts.iter().any(|part| part.there) {
        problem = problem.note(format!("these are there: {}", names(true)));
    }
    let missing = parts.iter().filter(|part| !part.there);
    let helps = missing.fold(problem, |problem, part| problem.help(format!("{}: {}", part.name, part.help)));
    Err(helps.note("it was not run with less").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_names_what_is_missing_and_what_is_there() {
        let index = b"version: 1\nhandlers:\n  a: {run: a, network: none, sandbox: strict, cpus: 1}\n  b: {run: b}\n";
        let schemas = crate::schema::Schemas::load(&std::collections::BTreeMap::new()).expect("no schema is a schema");
        let file = |path: &str| crate::router::HandlerFile { path: path.to_owned(), executable: true };
        let table = crate::router::Table::load(Some(index), &[file("a"), file("b")], &[], schemas).unwrap();
        let routes: Vec<_> = table.entries().map(|(route, _)| route.clone()).collect();
        let user = |switch| User { name: "x".into(), uid: 1, gid: 1, switch };
        let all = Walls { landlock: Some(7), seccomp: true, network: true };
        let kind = "a".parse().unwrap();
        let said = |walls, switch| strict(&kind, &routes[0], walls, &user(switch)).unwrap_err();
        let problem = said(all, true);
        assert_eq!(problem.message, "handler `a` asks for `sandbox: strict`, and this is missing: control groups");
        assert_eq!(
            problem.notes[0],
            "these are there: a user of their own, Landlock, a filter of system calls, no network"
        );
        let problem = said(Walls::default(), false);
        assert!(
            problem
                .message
                .ends_with(": a user of their own, control groups, Landlock, a filter of system calls, no network")
        );
        assert_eq!((problem.notes.len(), problem.help.len()), (1, 5));
        assert!(strict(&kind, &routes[1], Walls::default(), &user(false)).is_ok());
        assert_eq!(not_held(&routes[0], Walls::default()), ["network: none", "cpus"]);
        assert_eq!(not_held(&routes[0], Walls { seccomp: true, ..Walls::default() }), ["cpus"]);
    }
}
