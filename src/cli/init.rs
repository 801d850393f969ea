//! `init`: makes a repository a dispatch repository; touches nothing that is there.

use std::path::Path;

use crate::cli::context::Context;
use crate::cli::serve;
use crate::cli::{Exit, Failure};
use crate::daemon;
use crate::diagnostic::Diagnostic;
use crate::repo::{NewFile, Repo, init as make};

const HELLO: &str = include_str!("init_files/hello.sh");
const INDEX: &str = include_str!("init_files/index.yml");
const REQUESTS: &str = include_str!("init_files/requests.yml");
const IGNORE: &str = "dispatcher.log*\nevents.jsonl*\n";

/// The files of a new dispatch repository.
#[must_use]
pub fn files() -> Vec<NewFile> {
    let file = |path: &str, text: &str, executable: bool| NewFile {
        path: path.to_owned(),
        bytes: text.as_bytes().to_vec(),
        executable,
    };
    vec![
        file("handlers/hello.sh", HELLO, true),
        file("handlers/index.yml", INDEX, false),
        file("logs/.gitignore", IGNORE, false),
        file("logs/.gitkeep", "", false),
        file("processed/.gitkeep", "", false),
        file("requests/.gitkeep", "", false),
        file("schema/requests.yml", REQUESTS, false),
    ]
}

/// `init`.
///
/// # Errors
/// 73 where it is one already, 74 where the disk fails, 78 where git cannot be used.
pub fn init(context: &Context, dir: Option<&Path>) -> Result<Exit, Failure> {
    let dir = context.dir.join(dir.unwrap_or(Path::new(".")));
    let config = serve::config(context, &dir)?;
    let settings = daemon::git_settings(&config);
    let failed = |error: std::io::Error| Failure::io(&format!("make `{}`", dir.display()), &error);
    std::fs::create_dir_all(&dir).map_err(failed)?;
    let is_repo = dir.canonicalize().map_err(failed)?.ancestors().any(|up| up.join(".git").exists());
    let subject = "Make this a dispatch repository";
    let root = if is_repo {
        let repo = Repo::open(&dir, settings).map_err(|error| Failure::config(vec![error.diagnostic()]))?;
        let root = repo.root().to_owned();
        let missing: Vec<NewFile> = files().into_iter().filter(|file| !root.join(&file.path).exists()).collect();
        if root.join("requests").is_dir() && root.join("handlers").is_dir() {
            let problem = Diagnostic::new("E0517", format!("`{}` is a dispatch repository already", root.display()))
                .help("dispatcher handlers");
            return Err(Failure::new(Exit::EXISTS, problem));
        }
        let added = repo.add_files(subject, &missing).map_err(|error| Failure::new(Exit::IO, error.diagnostic()))?;
        added.map_err(|blocked| Failure::new(Exit::TRY_LATER, blocked.diagnostic()))?;
        root
    } else {
        let repo =
            make(&dir, settings, subject, &files()).map_err(|error| Failure::config(vec![error.diagnostic()]))?;
        repo.root().to_owned()
    };
    if context.common.json {
        context.print_json(&serde_json::json!({ "root": root.display().to_string() }))?;
        return Ok(Exit::DONE);
    }
    context.print(&format!(
        "{} is a dispatch repository now\n\n  dispatcher -C {0} submit hello --set name=world\n  dispatcher -C {0} --once --no-tui\n",
        root.display()
    ))?;
    Ok(Exit::DONE)
}
