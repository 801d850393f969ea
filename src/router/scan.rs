//! Which files are there, and which kinds they stand for by their name alone. Looks at names and executable bits that
//! the caller has read; refuses to choose between two files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::route::{Folder, HandlerSource};
use crate::diagnostic::Diagnostic;
use crate::request::Kind;

/// One regular file below a folder of handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerFile {
    /// Relative to the folder, with `/` between its parts.
    pub path: String,
    /// By its mode, on disk or in the tree of the commit.
    pub executable: bool,
}

/// One folder of `DISPATCHER_HANDLERS` and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraFolder {
    /// Its absolute path.
    pub folder: PathBuf,
    /// All files below it.
    pub files: Vec<HandlerFile>,
}

/// Names that editors and unfinished copies leave behind.
const LEFTOVERS: [&str; 7] = ["~", ".tmp", ".part", ".swp", ".bak", ".orig", ".rej"];

/// Where a file was found.
pub(super) enum Found {
    /// Ready to run.
    Executable(HandlerSource),
    /// There, without the bit.
    NotExecutable(HandlerSource),
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Candidate {
    /// The first folder that has something executable for it has exactly this.
    One(HandlerSource),
    /// Files, none of them executable; this is the first.
    NotExecutable(HandlerSource),
    /// The folder has several.
    Several(Vec<HandlerSource>),
}

/// All folders in the order in which they are searched.
pub(super) struct Folders<'f>(Vec<(Folder, &'f [HandlerFile])>);

impl<'f> Folders<'f> {
    pub(super) fn new(listing: &'f [HandlerFile], extra: &'f [ExtraFolder]) -> Self {
        let extra = extra.iter().map(|extra| (Folder::Extra(extra.folder.clone()), extra.files.as_slice()));
        Self(extra.chain([(Folder::Builtin, listing)]).collect())
    }

    /// The first executable file of this path, else the first file of it.
    pub(super) fn find(&self, path: &str) -> Option<Found> {
        let mut plain = None;
        for (folder, files) in &self.0 {
            let source = || HandlerSource { folder: folder.clone(), path: path.to_owned() };
            match files.iter().find(|file| file.path == path) {
                Some(file) if file.executable => return Some(Found::Executable(source())),
                Some(_) if plain.is_none() => plain = Some(Found::NotExecutable(source())),
                _ => {}
            }
        }
        plain
    }

    /// What the names at the top of the folders stand for, without those that `spoken_for` knows.
    pub(super) fn kinds(&self, spoken_for: impl Fn(&str, &Kind) -> bool) -> BTreeMap<Kind, Candidate> {
        let mut kinds = BTreeMap::new();
        for executable in [true, false] {
            for (folder, files) in &self.0 {
                let mut here: BTreeMap<Kind, Vec<HandlerSource>> = BTreeMap::new();
                for file in files.iter().filter(|file| file.executable == executable) {
                    if let Some(kind) = kind_of(&file.path)
                        && !spoken_for(&file.path, &kind)
                    {
                        let source = HandlerSource { folder: folder.clone(), path: file.path.clone() };
                        here.entry(kind).or_default().push(source);
                    }
                }
                for (kind, mut sources) in here {
                    let candidate = match (executable, sources.len()) {
                        (true, 1) => Candidate::One(sources.swap_remove(0)),
                        (true, _) => Candidate::Several(sources),
                        (false, _) => Candidate::NotExecutable(sources.swap_remove(0)),
                    };
                    kinds.entry(kind).or_insert(candidate);
                }
            }
        }
        kinds
    }
}

/// The kind that a file stands for: its name up to the last dot.
fn kind_of(path: &str) -> Option<Kind> {
    if path.contains('/') || path == "index.yml" || LEFTOVERS.iter().any(|end| path.ends_with(end)) {
        return None;
    }
    path.rsplit_once('.').map_or(path, |(stem, _)| stem).parse().ok()
}

/// There is no file for the kind.
pub(super) fn missing(kind: &Kind, file: &HandlerSource) -> Diagnostic {
    Diagnostic::new("E0203", format!("the handler of `{kind}` is missing: there is no `{}`", file.shown()))
        .help("add the file, or name another one in `run`")
}

/// The file of the kind lacks the executable bit.
pub(super) fn not_executable(kind: &Kind, file: &HandlerSource) -> Diagnostic {
    let shown = file.shown();
    let problem = Diagnostic::new("E0203", format!("the handler of `{kind}` is not executable: `{shown}`"));
    match file.folder {
        Folder::Builtin => problem.help(format!("chmod +x {shown}   or   git update-index --chmod=+x {shown}")),
        Folder::Extra(_) => problem.help(format!("chmod +x {shown}")),
    }
}

/// Several files would do for the kind.
pub(super) fn several(kind: &Kind, files: &[HandlerSource]) -> Diagnostic {
    let names: Vec<String> = files.iter().map(|file| format!("`{}`", file.shown())).collect();
    let first = files.first().map_or("", |file| &file.path);
    Diagnostic::new("E0204", format!("the kind `{kind}` has {} handlers: {}", files.len(), names.join(", ")))
        .help(format!("say which in handlers/index.yml: `{kind}: {first}`, or take the executable bit from the others"))
}
