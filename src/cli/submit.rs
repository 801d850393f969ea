//! `submit` and `retry`: a new file in the inbox. With a daemon it is dropped; without one it is committed and pushed, so
//! that it works from any clone.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::checkout;
use crate::cli::args::{Follow, Retry, Submit};
use crate::cli::ask;
use crate::cli::context::Context;
use crate::cli::find::Shelf;
use crate::cli::{Exit, Failure, follow, serve, validate};
use crate::daemon;
use crate::diagnostic::Diagnostic;
use crate::repo::{Integrated, NewFile, Oid, PushOutcome, Repo};
use crate::request::RunId;
use crate::text;
use crate::yaml;

/// How long a dropped file may take to be taken, where somebody waits for its run.
const TAKEN: Duration = Duration::from_secs(60);

/// `submit`.
///
/// # Errors
/// 64, 65, 78 where the request would be rejected, 66 where there is no such file, 73 where its name is taken.
pub fn submit(context: &Context, args: &Submit) -> Result<Exit, Failure> {
    let root = context.root()?;
    let Composed { name, bytes, from } = compose(context, args)?;
    validate::kinds(context, &root)?.check(&bytes, &from)?;
    Order { context, root: &root, name: &name, bytes: &bytes, no_push: args.no_push, how: &args.follow }.send()
}

/// `retry`.
///
/// # Errors
/// As [`submit`]; 66 where the run's request was not kept.
pub fn retry(context: &Context, args: &Retry) -> Result<Exit, Failure> {
    let root = context.root()?;
    let shelf = Shelf::whole(context, &root);
    let status = shelf.find(&args.run)?;
    let bytes = shelf.file(status.id, "request.yml", checkout::REQUEST).map_err(|error| {
        let message = format!("the request of run `{}` cannot be read: {error}", status.id.short());
        let problem =
            Diagnostic::new("E0138", message).note(format!("looked for in {}/request.yml", shelf.place(status.id)));
        Failure::new(Exit::NO_INPUT, problem.help("dispatcher submit FILE     asks with a file of your own"))
    })?;
    let bytes = without_id(&bytes);
    let safe: String = status.request.chars().map(|c| if c.is_ascii_graphic() && c != '/' { c } else { '_' }).collect();
    let name = retry_name(&status.id.short(), safe.trim_start_matches('.'));
    let name = free_name(&root, &name);
    Order { context, root: &root, name: &name, bytes: &bytes, no_push: args.no_push, how: &args.follow }.send()
}

/// `retry-<short>-NAME`, where a name that is one of a retry already gives up its own beginning, and a long one its end.
fn retry_name(short: &str, name: &str) -> String {
    let of_retry = |name: &str| {
        let (short, rest) = name.strip_prefix("retry-")?.split_once('-')?;
        (short.len() == 8 && short.bytes().all(|b| b.is_ascii_hexdigit())).then(|| rest.to_owned())
    };
    let name = of_retry(name).unwrap_or_else(|| name.to_owned());
    let (stem, end) = name.rsplit_once('.').unwrap_or((&name, "yml"));
    let stem: String = stem.chars().take(160).collect();
    format!("retry-{short}-{stem}.{end}")
}

/// The same request without its line `id: …`: it asks for a new run.
fn without_id(bytes: &[u8]) -> Vec<u8> {
    let is_id = |line: &[u8]| line.starts_with(b"id:") || line.starts_with(b"id :") || line.starts_with(b"\"id\":");
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').filter(|line| !is_id(line)).collect();
    let plain = lines.concat();
    let still_there =
        yaml::read(&plain, "request", yaml::Limits::REQUEST).is_ok_and(|doc| doc.value.get("id").is_some());
    match yaml::read(bytes, "request", yaml::Limits::REQUEST) {
        // Written as one flow mapping: given out anew, as JSON, which is YAML.
        Ok(document) if still_there || yaml::read(&plain, "request", yaml::Limits::REQUEST).is_err() => {
            let mut value = document.value;
            if let Some(map) = value.as_object_mut() {
                map.shift_remove("id");
            }
            value.to_string().into_bytes()
        }
        _ => plain,
    }
}

fn free_name(root: &Path, name: &str) -> String {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, "yml"));
    let taken = |name: &str| root.join("requests").join(name).symlink_metadata().is_ok();
    let first = format!("{stem}.{end}");
    let more = (2..).map(|n| format!("{stem}-{n}.{end}"));
    std::iter::once(first).chain(more).find(|name| !taken(name)).unwrap_or_default()
}

/// A request that is not sent yet.
struct Composed {
    /// In the inbox.
    name: String,
    bytes: Vec<u8>,
    /// Where a person finds what is wrong with it.
    from: String,
}

/// The request's name and bytes: a file's own, or put together from the options.
fn compose(context: &Context, args: &Submit) -> Result<Composed, Failure> {
    let what = args.what.to_string_lossy();
    let path = &context.dir.join(&args.what);
    let given = args.resource.is_some() || !args.set.is_empty() || args.reason.is_some();
    if what == "-" || path.is_file() {
        if given {
            let problem = Diagnostic::new("E0105", "`--set`, `--resource` and `--reason` make a new request")
                .help("write them into the file, or name a kind instead of a file");
            return Err(Failure::new(Exit::USAGE, problem));
        }
        if what == "-" {
            let bytes = checkout::whole(std::io::stdin().lock(), checkout::REQUEST)
                .map_err(|error| Failure::no_input("-", &error))?;
            return Ok(Composed { name: fresh_name("request"), bytes, from: "stdin".to_owned() });
        }
        let bytes = fs::File::open(path)
            .and_then(|file| checkout::whole(file, checkout::REQUEST))
            .map_err(|error| Failure::no_input(&what, &error))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let fits = [".yml", ".yaml"].iter().any(|end| name.ends_with(end)) && !name.starts_with('.');
        let name = if fits { name } else { format!("{}.yml", name.trim_start_matches('.')) };
        return Ok(Composed { name, bytes, from: what.into_owned() });
    }
    if what.contains('/') || what.ends_with(".yml") || what.ends_with(".yaml") {
        return Err(Failure::no_input(&what, &std::io::ErrorKind::NotFound.into()));
    }
    Ok(Composed { name: fresh_name(&what), bytes: from_options(&what, args)?, from: "command line".to_owned() })
}

/// A name that sorts by time and that nobody else has.
fn fresh_name(stem: &str) -> String {
    let stem: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect();
    let millis = daemon::wall().as_millis();
    format!("{}-{millis}-{:04x}.yml", stem.trim_start_matches('.'), fastrand::u16(..))
}

/// JSON is YAML, and it quotes what other readers would take for a date or a truth.
fn from_options(kind: &str, args: &Submit) -> Result<Vec<u8>, Failure> {
    let mut params = Map::new();
    for set in &args.set {
        let usage = |message: String| {
            let problem =
                Diagnostic::new("E0105", message).help(format!("dispatcher schema {kind}     shows its parameters"));
            Failure::new(Exit::USAGE, problem)
        };
        let Some((key, text)) = set.split_once('=') else {
            return Err(usage(format!("`--set {}`: `KEY=VALUE` is wanted", text::line(set))));
        };
        let line = format!("value: {text}");
        let value = match yaml::read(line.as_bytes(), "--set", yaml::Limits::REQUEST) {
            Ok(document) => document.value["value"].clone(),
            // What is no YAML by itself is meant as text.
            Err(_) => Value::String(text.to_owned()),
        };
        put(&mut params, key, value)
            .map_err(|()| usage(format!("`--set {key}`: `{key}` is set twice or is no object")))?;
    }
    let mut request = Map::new();
    request.insert("kind".to_owned(), kind.into());
    request.insert("params".to_owned(), Value::Object(params));
    let texts = [("resource", &args.resource), ("reason", &args.reason)];
    for (key, value) in texts {
        if let Some(value) = value {
            request.insert(key.to_owned(), value.clone().into());
        }
    }
    let lines = request.iter().map(|(key, value)| format!("{key}: {value}\n"));
    Ok(lines.collect::<String>().into_bytes())
}

/// Sets `a.b.c` in nested objects.
fn put(params: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), ()> {
    match key.split_once('.') {
        None if params.contains_key(key) => Err(()),
        None => {
            params.insert(key.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = params.entry(first).or_insert_with(|| Value::Object(Map::new()));
            put(inner.as_object_mut().ok_or(())?, rest, value)
        }
    }
}

/// A request on its way.
struct Order<'a> {
    context: &'a Context,
    root: &'a Path,
    name: &'a str,
    bytes: &'a [u8],
    no_push: bool,
    how: &'a Follow,
}

impl Order<'_> {
    /// Drops the file for a daemon, or commits and pushes it.
    fn send(&self) -> Result<Exit, Failure> {
        let Self { context, root, name, bytes, how, .. } = *self;
        let inbox = root.join("requests");
        if inbox.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
            let problem =
                Diagnostic::new("E0139", format!("`{}` is not a folder, and is not followed", inbox.display()))
                    .note("a link there would put the request anywhere")
                    .help("git log -- requests     shows who made it that");
            return Err(Failure::new(Exit::CONFIG, problem));
        }
        let target = inbox.join(name);
        if target.symlink_metadata().is_ok() {
            let problem =
                Diagnostic::new("E0108", format!("`requests/{name}` is there already")).help("give it another name");
            return Err(Failure::new(Exit::EXISTS, problem));
        }
        if ask::connect(context, root)?.is_none() {
            return self.commit();
        }
        let known: HashSet<RunId> = Shelf::new(root).ids().collect();
        drop_in(root, &target, bytes).map_err(|error| Failure::io(&format!("write `{}`", target.display()), &error))?;
        if !how.wait && !how.follow {
            return said(context, name, None);
        }
        let id = taken_as(root, name, known)?;
        if how.follow {
            return follow::follow(context, root, id, true);
        }
        let Some(status) = follow::until_final(context, root, id, None)? else { return Ok(Exit::WAITED) };
        follow::say_end(context, &status)?;
        Ok(Exit::of_run(status.status, status.rc))
    }

    /// Without a daemon here: a commit of that one file, pushed to where a dispatcher looks.
    fn commit(&self) -> Result<Exit, Failure> {
        let Self { context, root, name, bytes, no_push, how } = *self;
        if how.wait || how.follow {
            let problem = Diagnostic::new("E0701", format!("dispatcher is not running for {}", root.display()))
                .note("without one here there is nothing to wait for")
                .help("leave `--wait` out and look later: git pull && dispatcher list");
            return Err(Failure::new(Exit::UNAVAILABLE, problem));
        }
        let mut config = serve::config(context, root)?;
        // Its author is who asked.
        let person = crate::repo::Identity::of_person(root);
        config.identity = crate::config::Identity { name: person.name, email: Some(person.email) };
        let repo = daemon::open_repo(root, &config)?;
        if !no_push {
            // First what others pushed: a commit on an old tip could only be published by rebasing it.
            catch_up(&repo)?;
        }
        let file = NewFile { path: format!("requests/{name}"), bytes: bytes.to_vec(), executable: false };
        let (subject, files) = (format!("request: {name}"), [file]);
        let added = repo.add_files(&subject, &files);
        let mut oid = match added.map_err(|error| Failure::new(Exit::IO, error.diagnostic()))? {
            Ok(oid) => oid,
            Err(blocked) => return Err(Failure::new(Exit::TRY_LATER, blocked.diagnostic())),
        };
        if !no_push {
            publish(&repo, &mut oid, &subject, &files)?;
        }
        said(context, name, Some(&oid.to_string()))
    }
}

/// Written beside and renamed in: never seen half done, and there after a power cut once this returns.
fn drop_in(root: &Path, target: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let inbox = root.join("requests");
    let mut file = tempfile::Builder::new().prefix(".submit-").suffix(".tmp").tempfile_in(&inbox)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(target)?;
    fs::File::open(inbox)?.sync_all()
}

/// The run that a dropped file became.
fn taken_as(root: &Path, name: &str, mut known: HashSet<RunId>) -> Result<RunId, Failure> {
    let deadline = Instant::now() + TAKEN;
    let shelf = Shelf::new(root);
    while Instant::now() < deadline {
        if let Some(id) = newly_taken(&shelf, name, &mut known) {
            return Ok(id);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let problem = Diagnostic::new("E0109", format!("`requests/{name}` was not taken within {} s", TAKEN.as_secs()))
        .help("dispatcher status     says why no work begins");
    Err(Failure::new(Exit::TRY_LATER, problem))
}

/// Looks at the runs that are not `known`; those that turn out to be others' are known from then on.
fn newly_taken(shelf: &Shelf, name: &str, known: &mut HashSet<RunId>) -> Option<RunId> {
    for id in shelf.ids() {
        // A folder whose status is not written yet is looked at again.
        if !known.contains(&id)
            && let Some(status) = shelf.status(id)
        {
            if status.request == name {
                return Some(id);
            }
            known.insert(id);
        }
    }
    None
}

fn said(context: &Context, name: &str, commit: Option<&str>) -> Result<Exit, Failure> {
    if context.common.json {
        context.print_json(&serde_json::json!({ "request": format!("requests/{name}"), "commit": commit }))?;
    } else {
        let how = commit.map_or_else(
            || "dropped into the inbox".to_owned(),
            |commit| format!("committed as {}", commit.get(..12).unwrap_or(commit)),
        );
        context.print(&format!("requests/{} {how}\n", text::line(name)))?;
    }
    Ok(Exit::DONE)
}

fn catch_up(repo: &Repo) -> Result<(), Failure> {
    let none = |words: String| Diagnostic::new("E0519", format!("nothing was committed: {words}"));
    let alone = "dispatcher submit --no-push     commits it here alone";
    let failed = |words: String| {
        let problem = none(words).help("git pull     and again").help(alone);
        Failure::new(Exit::UNAVAILABLE, problem)
    };
    if let Err(error) = repo.fetch() {
        let why = error.diagnostic();
        let problem = Diagnostic { notes: why.notes, help: why.help, ..none(why.message) };
        return Err(Failure::new(Exit::UNAVAILABLE, problem.help(alone)));
    }
    match repo.integrate(&[]).map_err(|error| failed(error.to_string()))? {
        Integrated::Blocked(blocked) => Err(failed(blocked.diagnostic().message)),
        Integrated::Diverged { .. } => Err(failed("the remote branch was rewritten".to_owned())),
        Integrated::Unchanged | Integrated::FastForwarded { .. } | Integrated::Replayed { .. } => Ok(()),
    }
}

/// Pushes the request. Where others were faster it is committed again on top of what they pushed.
fn publish(repo: &Repo, oid: &mut Oid, subject: &str, files: &[NewFile]) -> Result<(), Failure> {
    for _ in 0..64 {
        let failed = |words: String| {
            let problem =
                Diagnostic::new("E0502", format!("the request is committed here, and the push failed: {words}"))
                    .help("git push     sends it later");
            Failure::new(Exit::UNAVAILABLE, problem)
        };
        match repo.push().map_err(|error| failed(error.diagnostic().message))? {
            PushOutcome::Pushed { .. } | PushOutcome::UpToDate | PushOutcome::NoRemote => return Ok(()),
            PushOutcome::Refused { words } | PushOutcome::Unreachable { words } => return Err(failed(words)),
            PushOutcome::NoAccess(access) => {
                let why = access.diagnostic();
                let problem = why.note("the request is committed here").help("git push     sends it later");
                return Err(Failure::new(Exit::UNAVAILABLE, problem));
            }
            PushOutcome::Moved | PushOutcome::Busy { .. } => {
                repo.fetch().map_err(|error| failed(error.diagnostic().message))?;
                match repo.add_files_again(*oid, subject, files).map_err(|error| failed(error.to_string()))? {
                    Some(Ok(again)) => *oid = again,
                    Some(Err(blocked)) => return Err(failed(blocked.diagnostic().message)),
                    None => return Err(failed("other commits wait to be pushed with it".to_owned())),
                }
            }
        }
    }
    let problem = Diagnostic::new("E0502", "the remote moved again and again").help("git push     sends it later");
    Err(Failure::new(Exit::TRY_LATER, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_asks_for_a_new_run() {
        let id = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";
        for (with, without) in [
            (format!("kind: a\nid: {id}\nparams: {{x: 1}}\n"), "kind: a\nparams: {x: 1}\n"),
            ("kind: a\n".to_owned(), "kind: a\n"),
            (format!("{{kind: a, id: {id}}}\n"), "{\"kind\":\"a\"}"),
        ] {
            assert_eq!(String::from_utf8(without_id(with.as_bytes())).unwrap(), without);
        }
    }

    #[test]
    fn only_new_runs_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(dir.path());
        let time = crate::time::Time::from_millis(1_763_900_000_000);
        let ids = [1, 2, 3].map(|n| RunId::new(time, [n; 10]));
        let folder = |id: RunId| dir.path().join(format!("processed/{id}"));
        let put = |id: RunId, name: &str| {
            fs::create_dir_all(folder(id)).unwrap();
            let by = crate::status::RequestedBy::default();
            let status = crate::status::Status::taken(id, name.to_owned(), time, "h".to_owned(), by);
            fs::write(folder(id).join("status.json"), status.to_bytes()).unwrap();
        };
        put(ids[0], "mine.yml");
        let mut known: HashSet<RunId> = shelf.ids().collect();
        put(ids[1], "other.yml");
        fs::create_dir_all(folder(ids[2])).unwrap();
        assert_eq!(newly_taken(&shelf, "mine.yml", &mut known), None);
        assert!(known.contains(&ids[1]) && !known.contains(&ids[2]), "{known:?}");
        put(ids[2], "mine.yml");
        assert_eq!(newly_taken(&shelf, "mine.yml", &mut known), Some(ids[2]));
    }

    #[test]
    fn a_retry_of_a_retry_is_named_like_one() {
        assert_eq!(retry_name("7c8d9e0f", "deploy.yml"), "retry-7c8d9e0f-deploy.yml");
        assert_eq!(retry_name("7c8d9e0f", "retry-01234567-deploy.yml"), "retry-7c8d9e0f-deploy.yml");
        assert_eq!(retry_name("7c8d9e0f", "retry-later.yml"), "retry-7c8d9e0f-retry-later.yml");
        assert_eq!(retry_name("7c8d9e0f", &format!("{}.yml", "x".repeat(250))).len(), 179);
    }

    #[test]
    fn nested_params_are_set_by_path() {
        let mut params = Map::new();
        put(&mut params, "a.b", 1.into()).unwrap();
        put(&mut params, "a.c", "x".into()).unwrap();
        assert_eq!(Value::Object(params.clone()).to_string(), r#"{"a":{"b":1,"c":"x"}}"#);
        assert!(put(&mut params, "a.b", 2.into()).is_err() && put(&mut params, "a.b.c", 2.into()).is_err());
    }
}
