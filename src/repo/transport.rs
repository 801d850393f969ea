//! The conversations with the remote: who is started for them and with what. The smart transport of ours starts `git
//! upload-pack` or `git receive-pack` here or behind the system's `ssh`, and carries the protocol over a socket. libgit2's
//! own transport for paths is no compare-and-swap and loses commits of others. Owns every command line of the network and
//! its closed environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{Error, ErrorClass, ErrorCode, Remote};

use super::remote::{Target, without_passwords};
use super::wire::{Stop, Stream, Wire, locked};
use crate::text;

/// The scheme of the URLs that libgit2 sees: no `insteadOf` and no person has it.
pub(super) const SCHEME: &str = "dispatcher-session";

/// What is shown of what the other side says.
const MOST_SHOWN: usize = 1_000;

static SESSIONS: Mutex<BTreeMap<u64, Arc<Session>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One conversation with the remote; ends its child when dropped.
pub(super) struct Conversation {
    number: u64,
    session: Arc<Session>,
}

struct Session {
    target: Target,
    /// Configuration of git for https; it may hold a password.
    settings: Vec<(String, String)>,
    wire: Arc<Wire>,
}

impl Conversation {
    /// Prepares a conversation that ends at the latest after `timeout`. Nothing is started yet.
    /// `settings` are git's configuration for https.
    pub(super) fn new(target: Target, settings: Vec<(String, String)>, timeout: Duration, stop: Option<Stop>) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session { target, settings, wire: Arc::new(Wire::new(timeout, stop)) });
        locked(&SESSIONS).insert(number, Arc::clone(&session));
        Self { number, session }
    }

    /// Whom it is with.
    pub(super) fn target(&self) -> &Target {
        &self.session.target
    }

    /// What libgit2 is told to connect to.
    pub(super) fn url(&self) -> String {
        format!("{SCHEME}://{}", self.number)
    }

    /// True where a password or token is sent along.
    pub(super) fn has_login(&self) -> bool {
        self.session.settings.iter().any(|(key, _)| key.ends_with(".extraHeader"))
    }

    /// Starts git's own helper for https.
    pub(super) fn helper(&self, url: &str, places: [(&str, OsString); 2]) -> io::Result<Stream> {
        let mut command = Command::new("git");
        // Its second argument is the name of a remote; it has no configuration of that name to read.
        command.args(["remote-https", "dispatcher", url]);
        close(&mut command, HELPED_BY);
        command.envs(places).env("GIT_ASKPASS", "").env("GIT_ALLOW_PROTOCOL", "https");
        command.env("GIT_CONFIG_COUNT", self.session.settings.len().to_string());
        for (at, (key, value)) in self.session.settings.iter().enumerate() {
            // The environment of a process is its own user's to read; its arguments are everybody's.
            command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        self.session.wire.start(command)
    }

    /// Starts the remote's receiving end, for a path or over ssh.
    pub(super) fn receive_pack(&self) -> io::Result<Stream> {
        let command = command(&self.session.target, "receive-pack");
        self.session.wire.start(command.ok_or_else(|| io::Error::other("https has a conversation of its own"))?)
    }

    /// Ends the child.
    pub(super) fn end(&self) {
        self.session.wire.end();
    }

    /// Ends the child and says what it said, escaped; empty where it said nothing.
    pub(super) fn words(&self) -> String {
        self.end();
        let mut said = shown(&self.session.wire.said());
        if let Some((at, _)) = said.char_indices().nth(MOST_SHOWN) {
            said.truncate(at);
            said.push('…');
        }
        said
    }

    /// True where the deadline ended it.
    pub(super) fn is_late(&self) -> bool {
        self.session.wire.is_late()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        locked(&SESSIONS).remove(&self.number);
        self.end();
    }
}

/// The lines that somebody said as one line, passwords of URLs left out.
pub(super) fn shown(said: &[u8]) -> String {
    let lines = said.split(|&b| b == b'\n' || b == b'\r').map(|l| text::bytes(l.trim_ascii()));
    without_passwords(&lines.filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; "))
}

/// The factory that libgit2 calls for our scheme.
pub(super) fn connect(remote: &Remote<'_>) -> Result<Transport, Error> {
    let number = remote.url().ok().and_then(|url| url.rsplit('/').next()?.parse().ok()).unwrap_or(0);
    let Some(session) = locked(&SESSIONS).get(&number).cloned() else {
        return Err(Error::from_str("no such conversation"));
    };
    Transport::smart(remote, false, Sub(session))
}

struct Sub(Arc<Session>);

impl SmartSubtransport for Sub {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        let verb = match service {
            Service::UploadPackLs | Service::UploadPack => "upload-pack",
            Service::ReceivePackLs | Service::ReceivePack => "receive-pack",
        };
        let failed = |e: io::Error| Error::new(ErrorCode::GenericError, ErrorClass::Os, e.to_string());
        let Some(command) = command(&self.0.target, verb) else {
            return Err(Error::from_str("https has a conversation of its own"));
        };
        Ok(Box::new(self.0.wire.start(command).map_err(failed)?))
    }

    fn close(&self) -> Result<(), Error> {
        self.0.wire.end();
        Ok(())
    }
}

/// Who the account is and where its programs and keys are.
const ACCOUNT: &[&str] = &["HOME", "PATH", "USER", "LOGNAME", "SSH_AUTH_SOCK"];
/// What else git's https needs: the account's configuration with its credential helpers, and the way out.
const HELPED_BY: &[&str] = &[
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Leaves of the environment what is named, and lets nobody be asked anything.
fn close(command: &mut Command, named: &[&str]) {
    command.env_clear();
    for name in named {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // Their words are read by us too.
    command.env("LC_ALL", "C.UTF-8").env("GIT_TERMINAL_PROMPT", "0");
}

/// The other end for libgit2; `None` for https, which it does not speak.
fn command(target: &Target, verb: &str) -> Option<Command> {
    let mut command = match target {
        Target::Path(path) => {
            let mut command = Command::new("git");
            command.arg(verb).arg(path);
            command
        }
        Target::Ssh { host, port, path } => {
            let mut command = ssh();
            command.args(SSH_OPTIONS);
            if let Some(port) = port {
                command.arg("-p").arg(port.to_string());
            }
            command
                .arg("--")
                .arg(host)
                .arg(format!("git-{verb} '{}'", path.replace('\'', "'\\''").replace('!', "'\\!'")));
            command
        }
        Target::Https(_) => return None,
    };
    close(&mut command, ACCOUNT);
    Some(command)
}

/// Nobody is asked anything, no key of a host is trusted on sight, and a line that is dead ends after 15 s, also when
/// nobody is left to end it.
const SSH_OPTIONS: &[&str] = &[
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=yes",
    "-oConnectTimeout=15",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
    "-x",
];

/// `ssh`, or what the account chose in its place, as git does it.
fn ssh() -> Command {
    if let Some(line) = std::env::var_os("GIT_SSH_COMMAND").filter(|l| !l.is_empty()) {
        let mut command = Command::new("sh");
        let mut script = line;
        script.push(" \"$@\"");
        command.arg("-c").arg(script).arg("ssh");
        return command;
    }
    Command::new(std::env::var_os("GIT_SSH").filter(|p| !p.is_empty()).unwrap_or_else(|| "ssh".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_asked_without_a_shell_in_between() {
        let line = |target: &Target| {
            let command = command(target, "receive-pack").unwrap();
            let args = command.get_args().map(|a| a.to_string_lossy().into_owned());
            [command.get_program().to_string_lossy().into_owned()].into_iter().chain(args).collect::<Vec<_>>()
        };
        assert_eq!(line(&Target::Path("/srv/a b".into())), ["git", "receive-pack", "/srv/a b"]);
        let ssh = Target::Ssh { host: "git@host".into(), port: Some(2222), path: "/srv/it's".into() };
        let line = line(&ssh);
        assert_eq!(line[1..=SSH_OPTIONS.len()], *SSH_OPTIONS);
        assert_eq!(line[1 + SSH_OPTIONS.len()..], ["-p", "2222", "--", "git@host", r"git-receive-pack '/srv/it'\''s'"]);
    }

    #[test]
    fn words_are_one_safe_line() {
        assert_eq!(shown(b"fatal: no\r\n  \n\x1b[31mbad\xff\n"), r"fatal: no; ^[[31mbad\xFF");
        assert_eq!(shown(b"at 'https://ana:s3cr3t@host/a'"), "at 'https://***@host/a'");
    }
}
