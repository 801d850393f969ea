//! https through git's own helper, `git remote-https`, spoken to as git itself does (gitremote-helpers(7)). It works on
//! an empty git folder of its own that borrows the repository's objects: no configuration, hook or attribute of the
//! repository is in its sight, and no ref of ours in its reach. The account's git configuration with its credential
//! helpers and the system's certificates count as they do for everybody.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::Oid;
use tempfile::TempDir;

use super::error::sync;
use super::login::{HttpsSettings, Login, LoginError};
use super::remote::Https;
use super::transport::Conversation;
use super::wire::Stream;

/// The longest line that is read of the helper: the name of a ref, or what a remote says about it.
const LONGEST: u64 = 64 << 10;

/// What the names of the helpers' folders begin with; the number of the process follows.
const FOLDER: &str = "dispatcher-https-";

/// Removes the folders that processes of this user have left which are gone.
pub(super) fn sweep() {
    let mine = nix::unistd::geteuid().as_raw();
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(FOLDER)?.split('-').next()?.parse::<u32>().ok());
        let left = pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        if left && entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == mine) {
            // A few bytes that the system clears away some day.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A started helper; ended when dropped.
pub(super) struct Helper<'a> {
    talk: &'a Conversation,
    stream: BufReader<Stream>,
    objects: PathBuf,
    /// The git folder of its own; goes after the helper itself.
    _folder: TempDir,
}

/// What the helper is started with.
pub(super) struct Ground<'a> {
    /// The repository's `objects` folder.
    pub(super) objects: &'a Path,
    /// Commits that are here with all that they build on, so that they are not sent again.
    pub(super) known: &'a [Oid],
}

/// Git's configuration for one conversation: nothing is asked, followed or sent elsewhere. All of it stands under the
/// full URL where it can, which counts more than anything that the account's own configuration says.
pub(super) fn settings(
    configured: &HttpsSettings,
    https: &Https,
    timeout: Duration,
) -> Result<Vec<(String, String)>, LoginError> {
    let url = &https.url;
    let mut out: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: &str| out.push((key.to_owned(), value.to_owned()));
    // With the second protocol the helper leaves the talking to git.
    set("protocol.version", "0");
    set("push.gpgSign", "false");
    // One pack for each fetch, as over the other transports, which git syncs.
    set("fetch.unpackLimit", "1");
    set(&format!("http.{url}.sslVerify"), "true");
    set(&format!("http.{url}.followRedirects"), "false");
    // Where nobody is left to end it.
    set(&format!("http.{url}.lowSpeedLimit"), "1");
    set(&format!("http.{url}.lowSpeedTime"), &timeout.as_secs().max(1).to_string());
    if let Some(path) = &configured.ca_file {
        let why = |e: io::Error| LoginError::Authority { path: path.display().to_string(), why: e.to_string() };
        File::open(path).map_err(why)?;
        set(&format!("http.{url}.sslCAInfo"), &path.to_string_lossy());
    }
    match Login::find(configured, https)? {
        Some(login) => {
            // What is given here is all that counts.
            set("credential.helper", "");
            set(&format!("http.{url}.extraHeader"), "");
            set(&format!("http.{url}.extraHeader"), &login.header());
        }
        None => {
            if let Some(user) = &https.user {
                // Credentials are asked for a host; a path here would match none.
                let host = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
                set(&format!("credential.{host}.username"), user);
            }
        }
    }
    Ok(out)
}

impl<'a> Helper<'a> {
    /// Starts it.
    pub(super) fn start(talk: &'a Conversation, https: &Https, ground: &Ground<'_>) -> io::Result<Self> {
        // Not in the repository, whose owner may be somebody whom we do not obey: what stands in it is configuration.
        let folder = tempfile::Builder::new().prefix(&format!("{FOLDER}{}-", std::process::id())).tempdir()?;
        fs::create_dir(folder.path().join("refs"))?;
        fs::write(folder.path().join("HEAD"), "ref: refs/heads/none\n")?;
        let refs = ground.known.iter().enumerate().map(|(at, oid)| format!("{oid} refs/known/{at}\n"));
        fs::write(folder.path().join("packed-refs"), refs.collect::<String>())?;
        let places: [(&str, OsString); 2] =
            [("GIT_DIR", folder.path().into()), ("GIT_OBJECT_DIRECTORY", ground.objects.into())];
        let stream = BufReader::new(talk.helper(&https.url, places)?);
        let mut helper = Self { talk, stream, objects: ground.objects.to_owned(), _folder: folder };
        helper.option("progress", "false")?;
        Ok(helper)
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    /// The next line without its end.
    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "git has ended in the middle of its answer"));
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn option(&mut self, name: &str, value: &str) -> io::Result<()> {
        self.say(&format!("option {name} {value}\n"))?;
        match self.line()?.as_str() {
            "ok" => Ok(()),
            other => Err(io::Error::other(format!("git does not know the option `{name}`: {other}"))),
        }
    }

    /// Where the remote has the refs of these names, as whoever pushes sees it or as whoever fetches does.
    pub(super) fn look<const N: usize>(&mut self, names: &[String; N], to_push: bool) -> io::Result<[Option<Oid>; N]> {
        self.say(if to_push { "list for-push\n" } else { "list\n" })?;
        let mut found = [None; N];
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(found);
            }
            let mut words = line.split(' ');
            if let (Some(oid), Some(name)) = (words.next(), words.next())
                && let Some(at) = names.iter().position(|of| of == name)
            {
                found[at] = Oid::from_str(oid).ok();
            }
        }
    }

    /// Gets commits that [`Self::look`] found under these names, with all that they build on.
    pub(super) fn fetch<'n>(&mut self, wanted: impl Iterator<Item = (Oid, &'n String)>) -> io::Result<Kept> {
        let mut kept = Kept(Vec::new());
        for (oid, name) in wanted {
            self.say(&format!("fetch {oid} {name}\n"))?;
        }
        self.say("\n")?;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                // Git syncs the pack and never its folder.
                sync(&File::open(self.objects.join("pack"))?)?;
                return Ok(kept);
            }
            if let Some(file) = line.strip_prefix("lock ").map(Path::new).and_then(Path::file_name)
                && Path::new(file).extension().is_some_and(|end| end == "keep")
            {
                kept.0.push(self.objects.join("pack").join(file));
            }
        }
    }

    /// Moves the remote's ref `name` from `seen`, which is compared once more on the way, to `tip`. What the remote said
    /// of it: `None` where it took it.
    pub(super) fn push(&mut self, tip: Oid, name: &str, seen: Option<Oid>) -> io::Result<Option<String>> {
        let seen = seen.map_or_else(String::new, |oid| oid.to_string());
        self.option("cas", &format!("{name}:{seen}"))?;
        self.say(&format!("push {tip}:{name}\n\n"))?;
        let mut verdict = Err(io::Error::other("the remote did not say what became of the push"));
        loop {
            let line = self.line()?;
            match line.split(' ').collect::<Vec<_>>()[..] {
                [""] => return verdict,
                ["ok", of] if of == name => verdict = Ok(None),
                ["error", of, ..] if of == name => {
                    let why = line["error ".len() + name.len()..].trim_start();
                    verdict = Ok(Some(why.trim_matches('"').to_owned()));
                }
                _ => {}
            }
        }
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        self.talk.end();
    }
}

/// Marks that keep new packs from being cleaned away until a ref names their commits; removed when dropped.
pub(super) struct Kept(Vec<PathBuf>);

impl Drop for Kept {
    fn drop(&mut self) {
        for path in &self.0 {
            // One that stays costs a pack that is never joined with others.
            let _ = fs::remove_file(path);
        }
    }
}
