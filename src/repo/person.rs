//! Who works in a checkout, as git itself would sign a commit there.

use std::path::Path;
use std::process::Command;

use super::open::Identity;

impl Identity {
    /// The person's own name and address, from git's configuration and environment; the login name where git knows none.
    #[must_use]
    pub fn of_person(dir: &Path) -> Self {
        known_to_git(dir).unwrap_or_else(|| {
            let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
            let name = user.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name);
            let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
            let email = format!("{name}@{}", host.unwrap_or_else(|| "localhost".to_owned()));
            Self { name, email }
        })
    }
}

fn known_to_git(dir: &Path) -> Option<Identity> {
    let asked = Command::new("git").arg("-C").arg(dir).args(["var", "GIT_AUTHOR_IDENT"]).output().ok()?;
    let line = String::from_utf8(asked.stdout).ok().filter(|_| asked.status.success())?;
    // NAME <ADDRESS> SECONDS ZONE
    let (name, rest) = line.split_once(" <")?;
    let (email, _) = rest.split_once('>')?;
    Some(Identity { name: name.to_owned(), email: email.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{HttpsSettings, Settings, init};

    #[test]
    fn a_checkouts_own_identity_counts() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity { name: "dispatcher".into(), email: "d@h".into() };
        let settings = Settings {
            remote: "origin".into(),
            branch: "main".into(),
            https: HttpsSettings::default(),
            timeout: std::time::Duration::from_secs(10),
            identity,
        };
        init(dir.path(), settings, "begin", &[]).unwrap();
        for (key, value) in [("user.name", "Ana Ops"), ("user.email", "ana@example.org")] {
            let set = Command::new("git").arg("-C").arg(dir.path()).args(["config", key, value]).status().unwrap();
            assert!(set.success());
        }
        let person = Identity::of_person(dir.path());
        assert_eq!((person.name.as_str(), person.email.as_str()), ("Ana Ops", "ana@example.org"));
    }
}
