//! Why a remote lets us not in: the words of ssh, of git and of the forges, sorted into the few causes that a person can
//! do something about, each with its own message. Words that are not known stay what they are.

use super::remote::Target;
use crate::diagnostic::{Code, Diagnostic};
use crate::text;

/// A remote that lets us not in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    remote: String,
    target: Target,
    cause: Cause,
    /// What the other side said, escaped.
    words: String,
}

/// What a person has to do something about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// None of the keys that ssh offered is wanted.
    KeyRefused,
    /// The host's key stands in no `known_hosts`.
    HostUnknown,
    /// The host's key is another than the one in this file, `FILE:LINE`.
    HostChanged(String),
    /// User and password, or the token, are not the right ones; `true` where they were given to us.
    LoginRefused(bool),
    /// A password is wanted, and there is none.
    NoLogin,
    /// Whoever we are may not do this.
    Forbidden,
    /// Nobody vouches for the certificate.
    Certificate,
    /// The machine is not there: why not, in words of ours.
    NotReached(&'static str),
    /// The machine is there, and the repository is not.
    NoRepository,
    /// It is somewhere else.
    Moved,
}

impl Access {
    /// Sorts what was said; `None` where it is nothing of this. `login`: a password or token was sent along.
    pub(super) fn of(remote: &str, target: &Target, login: bool, words: &str) -> Option<Self> {
        let cause = cause(target, login, words)?;
        Some(Self { remote: text::line(remote), target: target.clone(), cause, words: words.to_owned() })
    }

    /// The error as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let said = match self.target {
            Target::Path(_) => "git said",
            Target::Ssh { .. } => "ssh said",
            Target::Https(_) => "git said",
        };
        let words = match self.cause {
            // Its capitals are for people who have no better message.
            Cause::HostChanged(_) => {
                let told = ["SHA256:", "Offending ", "Host key for "];
                let lines = self.words.split("; ").filter(|line| told.iter().any(|start| line.starts_with(start)));
                lines.collect::<Vec<_>>().join("; ")
            }
            _ => self.words.clone(),
        };
        let problem = Diagnostic::new(self.code(), self.to_string()).note(format!("{said}: {words}"));
        let notes = self.notes().into_iter().fold(problem, Diagnostic::note);
        self.help().into_iter().fold(notes, Diagnostic::help)
    }

    const fn code(&self) -> Code {
        match self.cause {
            Cause::KeyRefused => "E0530",
            Cause::HostUnknown => "E0531",
            Cause::HostChanged(_) => "E0532",
            Cause::LoginRefused(_) => "E0533",
            Cause::NoLogin => "E0534",
            Cause::Forbidden => "E0535",
            Cause::Certificate => "E0536",
            Cause::NotReached(_) => "E0538",
            Cause::NoRepository => "E0539",
            Cause::Moved => "E0540",
        }
    }

    fn notes(&self) -> Vec<String> {
        match &self.cause {
            Cause::HostUnknown => {
                let file = known_hosts();
                vec![
                    format!("keys are looked for in {file}, or in the files that the ssh configuration names"),
                    "the key of an unknown host is never taken on trust".to_owned(),
                ]
            }
            Cause::HostChanged(_) => {
                vec!["either it was set up anew, or somebody stands in between; nothing was sent".to_owned()]
            }
            Cause::LoginRefused(false) => vec!["user and password came from a credential helper of git".to_owned()],
            _ => Vec::new(),
        }
    }

    fn help(&self) -> Vec<String> {
        let me = account();
        let remote = &self.remote;
        let lines: Vec<String> = match &self.cause {
            Cause::KeyRefused => vec![
                format!("{} -v     as {me} shows which keys are offered", self.ssh()),
                "add the public key to the account at the remote, with the right to write".to_owned(),
            ],
            Cause::HostUnknown => vec![
                format!("{}     as {me}: compare the fingerprint, then answer `yes`", self.ssh()),
            ],
            Cause::HostChanged(at) => {
                let file = at.rsplit_once(':').map_or(at.as_str(), |(file, _)| file);
                vec![format!("compare fingerprints with the remote's administrator, then: ssh-keygen -f {file} -R {}", self.known_name())]
            }
            Cause::LoginRefused(true) => vec![
                "write a token that counts to where `https.token_file` or `https.token_credential` points; it is read again each time".to_owned(),
            ],
            Cause::LoginRefused(false) => vec![
                format!("git ls-remote {self_target}     as {me} shows what the helper answers", self_target = self.target),
            ],
            Cause::NoLogin => vec![
                "https: {token_file: /etc/dispatcher/token} in the host configuration; the file holds a token or `user:password`".to_owned(),
                "or a credential helper: git help credentials".to_owned(),
            ],
            Cause::Forbidden => vec!["let the dispatcher's user, key or token read and write this repository".to_owned()],
            Cause::Certificate => vec![
                "https: {ca_file: /etc/ssl/private-ca.pem} in the host configuration names the certificate of your own authority".to_owned(),
            ],
            Cause::NotReached(_) => vec![
                format!("git remote get-url {remote}     is that the right machine?"),
                "dispatcher fetch     once it is back".to_owned(),
            ],
            Cause::NoRepository => vec![
                format!("git remote set-url {remote} URL     where the address is wrong"),
                "a forge says the same to those who may not see the repository: is it the right key or token?".to_owned(),
            ],
            Cause::Moved => vec![
                format!("curl -sI {}/info/refs?service=git-upload-pack     shows where to", self.target),
                format!("git remote set-url {remote} URL     (it may only lack `.git` at its end)"),
            ],
        };
        lines
    }

    /// What a person would type to get there by hand.
    fn ssh(&self) -> String {
        match &self.target {
            Target::Ssh { host, port: Some(port), .. } => format!("ssh -p {port} {}", text::line(host)),
            Target::Ssh { host, .. } => format!("ssh {}", text::line(host)),
            Target::Path(_) | Target::Https(_) => "ssh".to_owned(),
        }
    }

    fn host(&self) -> String {
        match &self.target {
            Target::Ssh { host, .. } => text::line(host.rsplit('@').next().unwrap_or(host)),
            other => other.to_string(),
        }
    }

    /// How a host is called in `known_hosts`.
    fn known_name(&self) -> String {
        match &self.target {
            Target::Ssh { port: Some(port), .. } if *port != 22 => format!("'[{}]:{port}'", self.host()),
            _ => self.host(),
        }
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (target, host) = (&self.target, self.host());
        write!(f, "remote `{}`: ", self.remote)?;
        match &self.cause {
            Cause::KeyRefused => write!(f, "`{target}` accepts no ssh key of this account"),
            Cause::HostUnknown => write!(f, "the ssh host key of `{host}` is not known"),
            Cause::HostChanged(at) => write!(f, "the ssh host key of `{host}` is not the one in {at}"),
            Cause::LoginRefused(true) => write!(f, "`{target}` refused the token or password that is configured"),
            Cause::LoginRefused(false) => write!(f, "`{target}` refused user and password"),
            Cause::NoLogin => write!(f, "`{target}` asks for user and password, and none is configured"),
            Cause::Forbidden => write!(f, "`{target}` does not allow this to the dispatcher's account: {}", self.words),
            Cause::Certificate => write!(f, "the certificate of `{target}` is not trusted"),
            Cause::NotReached(why) => write!(f, "no connection to `{target}`: {why}"),
            Cause::NoRepository => write!(f, "there is no repository at `{target}`"),
            Cause::Moved => write!(f, "`{target}` sends on to another address, which is not followed"),
        }
    }
}

fn cause(target: &Target, login: bool, words: &str) -> Option<Cause> {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let not_reached = [
        ("Could not resolve", "its name is not known"),
        ("Name or service not known", "its name is not known"),
        ("Connection refused", "nobody listens there"),
        ("Couldn't connect to server", "nobody listens there"),
        ("No route to host", "there is no way to it"),
        ("Network is unreachable", "there is no way to it"),
        ("imed out", "it does not answer"),
    ];
    let forbidden = ["read only", "read-only key", "not allowed to push", "not have write access", "error: 403"];
    let missing = [
        "does not appear to be a git repository",
        "repository not found",
        "Repository not found",
        "' not found",
        "error: 404",
    ];
    if let Target::Ssh { .. } = target {
        if has(&["IDENTIFICATION HAS CHANGED", "host key for", "Host key for"]) && has(&["has changed"]) {
            let at = words
                .split("; ")
                .find_map(|line| line.strip_prefix("Offending ")?.split_once(" in "))
                .map(|(_, at)| at);
            return Some(Cause::HostChanged(at.map_or_else(known_hosts, str::to_owned)));
        }
        if has(&["host key is known for", "Host key verification failed"]) {
            return Some(Cause::HostUnknown);
        }
        if has(&["Permission denied (", "Too many authentication failures"]) {
            return Some(Cause::KeyRefused);
        }
    }
    if let Target::Https(_) = target {
        if has(&["Authentication failed", "error: 401"]) {
            return Some(Cause::LoginRefused(login));
        }
        if has(&["could not read Username", "could not read Password", "terminal prompts disabled"]) {
            return Some(if login { Cause::LoginRefused(true) } else { Cause::NoLogin });
        }
        if has(&["certificate", "SSL CA cert"]) {
            return Some(Cause::Certificate);
        }
        if ["301", "302", "303", "307", "308"].iter().any(|code| words.contains(&format!("error: {code}"))) {
            return Some(Cause::Moved);
        }
    }
    if has(&forbidden) {
        return Some(Cause::Forbidden);
    }
    if has(&missing) {
        return Some(Cause::NoRepository);
    }
    not_reached.into_iter().find(|(said, _)| words.contains(said)).map(|(_, why)| Cause::NotReached(why))
}

/// Where this account's ssh looks first. It goes by the account, not by `$HOME`.
fn known_hosts() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map_or_else(|| "~/.ssh/known_hosts".to_owned(), |user| format!("{}/.ssh/known_hosts", user.dir.display()))
}

fn account() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("user {uid}"), |user| format!("user `{}`", user.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::remote::Https;

    fn ssh() -> Target {
        Target::Ssh { host: "git@forge".into(), port: Some(2222), path: "ops.git".into() }
    }

    fn https() -> Target {
        Target::Https(Https { url: "https://forge/ops.git".into(), user: None, password: None })
    }

    fn check(target: &Target, login: bool, words: &str, code: &str, parts: &[&str]) {
        let access = Access::of("origin", target, login, words);
        let text = access.map_or_else(String::new, |access| access.diagnostic().render());
        assert!(text.starts_with(&format!("error[{code}]: remote `origin`: ")), "{words}: {text}");
        assert!(text.contains("  = help: "), "{text}");
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in {text}");
        }
    }

    #[test]
    fn what_ssh_says_has_its_message() {
        check(&ssh(), false, "git@forge: Permission denied (publickey).", "E0530", &["ssh -p 2222 git@forge -v"]);
        check(&ssh(), false, "Host key verification failed.", "E0531", &["/.ssh/known_hosts", "ssh -p 2222 git@forge"]);
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @; Offending ED25519 key in /home/ana/.ssh/known_hosts:7; \
                       Host key for [forge]:2222 has changed and you have requested strict checking.; Host key verification failed.";
        let fix = "ssh-keygen -f /home/ana/.ssh/known_hosts -R '[forge]:2222'";
        check(&ssh(), false, changed, "E0532", &["is not the one in /home/ana/.ssh/known_hosts:7", fix]);
        let marked = "ERROR: The key you are authenticating with has been marked as read only.";
        check(&ssh(), false, marked, "E0535", &["marked as read only"]);
        check(&ssh(), false, "ERROR: Repository not found.", "E0539", &["git remote set-url origin"]);
        check(&ssh(), false, "ssh: Could not resolve hostname forge: Name or service not known", "E0538", &["forge"]);
    }

    #[test]
    fn what_git_says_of_https_has_its_message() {
        let at = "fatal: unable to access 'https://forge/ops.git/': ";
        let prompt = "fatal: could not read Username for 'https://forge': terminal prompts disabled";
        check(&https(), true, prompt, "E0533", &["refused the token", "https.token_file"]);
        check(&https(), false, "fatal: Authentication failed for 'https://forge/'", "E0533", &["credential helper"]);
        check(&https(), false, prompt, "E0534", &["none is configured", "https: {token_file:"]);
        check(&https(), true, &format!("{at}The requested URL returned error: 403"), "E0535", &["does not allow"]);
        check(&https(), true, &format!("{at}server certificate verification failed."), "E0536", &["https: {ca_file:"]);
        check(&https(), true, &format!("{at}SSL certificate problem: self-signed certificate"), "E0536", &[]);
        check(&https(), true, &format!("{at}Could not resolve host: forge"), "E0538", &["its name is not known"]);
        check(&https(), true, "fatal: repository 'https://forge/ops.git/' not found", "E0539", &["no repository at"]);
        check(
            &https(),
            true,
            &format!("{at}The requested URL returned error: 301"),
            "E0540",
            &["curl -sI https://forge/ops.git/"],
        );
    }

    #[test]
    fn other_words_are_left_alone() {
        for words in ["", "fatal: the remote end hung up unexpectedly", "the certificate", "remote: hook declined"] {
            assert_eq!(Access::of("origin", &ssh(), false, words), None, "{words}");
        }
    }
}
