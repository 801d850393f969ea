//! What this version can do of what is configured: which demands it cannot meet, and which keys it only reads. Says so;
//! refuses nothing itself.

use super::load::{Loaded, Origin};
use super::settings::Mode;
use crate::diagnostic::{Diagnostic, Place};

/// Keys that are read and checked, and change nothing yet. A name that ends in a dot stands for all below it.
const IDLE: [&str; 2] = ["sandbox.cgroup_path", "git_pause"];

impl Loaded {
    /// One problem for each part of the sandbox that is required and that this version cannot give: a daemon must not
    /// start without it.
    #[must_use]
    pub fn unmet(&self) -> Vec<Diagnostic> {
        let parts = [("sandbox.cgroup", self.config.sandbox.cgroup, "control groups")];
        let required = parts.into_iter().filter(|(_, mode, _)| *mode == Mode::Require);
        let problem = |(key, _, what): (&str, Mode, &str)| {
            let message = format!("`{key}` is `require`, and this version cannot hold handlers by {what}");
            let problem = Diagnostic::new("E0809", message).note("nothing was started with less").help(format!(
                "`{key}: auto` does without until a version has it; `dispatcher selftest` shows what holds handlers now"
            ));
            self.placed(problem, key)
        };
        required.map(problem).collect()
    }

    /// One warning for all keys that are set and change nothing: not yet, or not without another one.
    #[must_use]
    pub fn idle(&self) -> Option<Diagnostic> {
        let alone = self.config.listen.is_none();
        let is_idle = |path: &str| {
            IDLE.iter().any(|idle| if idle.ends_with('.') { path.starts_with(idle) } else { path == *idle })
                // Nobody can knock at a hook that is served nowhere.
                || (path == "webhook_secret_file" && alone)
        };
        let set = self.origins.iter().filter(|(path, origin)| **origin != Origin::Default && is_idle(path));
        let names: Vec<String> = set.map(|(path, origin)| format!("`{path}` ({origin})")).collect();
        if names.is_empty() {
            return None;
        }
        let message = format!("set, and without effect in this version: {}", names.join(", "));
        Some(Diagnostic::new("E0810", message))
    }

    /// With the place or the source of the key's value.
    pub(super) fn placed(&self, problem: Diagnostic, key: &str) -> Diagnostic {
        match (&self.file, self.origins.get(key)) {
            (Some(file), Some(Origin::File { line })) => {
                problem.at(Place { file: file.display().to_string(), line: *line, col: 1, len: 1, snippet: None })
            }
            (_, Some(origin)) => problem.note(format!("it is set by: {origin}")),
            (_, None) => problem,
        }
    }
}
