//! What the demo plays: its files, and how each of its requests must end.

use crate::cli::init;
use crate::repo::NewFile;
use crate::status::State;

/// A request of the demo and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Role {
    /// Its file in `requests/`.
    pub name: &'static str,
    /// What stands in it.
    pub text: &'static str,
    /// How it ends.
    pub state: State,
    /// What it exits with.
    pub rc: i32,
    /// How many attempts it takes.
    pub attempts: u32,
    /// What it is there for, in few words.
    pub shows: &'static str,
}

macro_rules! role {
    ($name:literal, $state:ident, $rc:literal, $attempts:literal, $shows:literal) => {
        Role {
            name: $name,
            text: include_str!(concat!("../demo_files/requests/", $name)),
            state: State::$state,
            rc: $rc,
            attempts: $attempts,
            shows: $shows,
        }
    };
}

/// All requests, in the order in which they are taken.
pub(super) const ROLES: [Role; 13] = [
    role!("01-report.yml", Succeeded, 0, 1, "steps and a result"),
    role!("02-restart.yml", Succeeded, 0, 1, "holds its resource"),
    role!("03-restart-too.yml", Succeeded, 0, 1, "waited for its turn"),
    role!("04-migrate.yml", Failed, 3, 1, "its exit code is kept"),
    role!("05-sync.yml", TimedOut, 124, 1, "killed after its 2 s"),
    role!("06-fetch-feed.yml", Succeeded, 0, 2, "said 75, tried again"),
    role!("07-crunch.yml", OutOfMemory, 137, 1, "wanted more than 64M"),
    role!("08-rollout-dry.yml", Succeeded, 0, 1, "a dry run, only asked"),
    role!("09-mistakes.yml", Rejected, 65, 0, "every mistake at once"),
    role!("10-unknown.yml", Rejected, 64, 0, "no such kind: a hint"),
    role!("11-once.yml", Succeeded, 0, 1, "brought its own id"),
    role!("12-once-again.yml", Duplicate, 0, 0, "same id, not run again"),
    role!("13-too-late.yml", Expired, 75, 0, "came too late to start"),
];

/// The request whose rejection is shown in full.
pub(super) const MISTAKES: &str = "09-mistakes.yml";

macro_rules! handler {
    ($name:literal) => {
        (concat!("handlers/", $name), include_str!(concat!("../demo_files/handlers/", $name)))
    };
}

const HANDLERS: [(&str, &str); 7] = [
    handler!("crunch.sh"),
    handler!("fetch-feed.sh"),
    handler!("migrate.sh"),
    handler!("report.sh"),
    handler!("restart.sh"),
    handler!("rollout.sh"),
    handler!("sync.sh"),
];

fn file(path: &str, text: &str, executable: bool) -> NewFile {
    NewFile { path: path.to_owned(), bytes: text.as_bytes().to_vec(), executable }
}

/// The files of the demo's dispatch repository: those of a new one, with other handlers.
pub(super) fn files() -> Vec<NewFile> {
    let mut files = init::files();
    files.retain(|file| !file.path.starts_with("handlers/") && !file.path.starts_with("schema/"));
    files.extend(HANDLERS.map(|(path, text)| file(path, text, true)));
    files.push(file("handlers/index.yml", include_str!("../demo_files/handlers/index.yml"), false));
    files.push(file("schema/requests.yml", include_str!("../demo_files/schema/requests.yml"), false));
    files
}

/// The requests as files.
pub(super) fn requests() -> Vec<NewFile> {
    ROLES.map(|role| file(&format!("requests/{}", role.name), role.text, false)).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_demo_is_played() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/demo_files");
        let mut on_disk = BTreeSet::new();
        for sub in ["handlers", "schema", "requests"] {
            for entry in std::fs::read_dir(folder.join(sub)).unwrap() {
                on_disk.insert(format!("{sub}/{}", entry.unwrap().file_name().into_string().unwrap()));
            }
        }
        let all = files().into_iter().chain(requests());
        let played: BTreeSet<String> = all.map(|file| file.path).filter(|path| !path.contains("/.git")).collect();
        assert_eq!(played, on_disk);
    }

    #[test]
    fn every_outcome_that_needs_no_accident_is_shown() {
        let shown: BTreeSet<&str> = ROLES.iter().map(|role| role.state.word()).collect();
        let left: Vec<&str> =
            State::ALL.into_iter().filter(|s| s.is_final()).map(State::word).filter(|w| !shown.contains(w)).collect();
        assert_eq!(left, ["cancelled", "crashed"]);
    }

    #[test]
    fn the_words_fit_a_narrow_terminal() {
        for role in ROLES {
            assert!(role.shows.len() <= 22, "{}", role.shows);
        }
    }
}
