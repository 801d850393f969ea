//! Where the remote is. Owns the reading of its URL; refuses what our transport cannot reach, and whatever is not
//! encrypted. `insteadOf` is not applied: what the repository's configuration says is where it goes.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::open::Repo;
use crate::diagnostic::Diagnostic;
use crate::text;

/// A remote that can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A repository on this machine.
    Path(PathBuf),
    /// Through the system's `ssh`.
    Ssh {
        /// `user@host`, or the host alone.
        host: String,
        /// Where it is not the usual one.
        port: Option<u16>,
        /// As the other side reads it.
        path: String,
    },
    /// Through git's own https.
    Https(Https),
}

impl fmt::Display for Target {
    /// As people read it: without anything that could be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&text::line(&path.to_string_lossy())),
            Self::Ssh { host, port: None, path } => write!(f, "{}:{}", text::line(host), text::line(path)),
            Self::Ssh { host, port: Some(port), path } => {
                write!(f, "ssh://{}:{port}/{}", text::line(host), text::line(path.trim_start_matches('/')))
            }
            Self::Https(https) => f.write_str(&text::line(&https.url)),
        }
    }
}

/// An https address, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Https {
    /// Without user and password.
    pub(super) url: String,
    /// Of the URL; it may be a token.
    pub(super) user: Option<String>,
    /// Of the URL.
    pub(super) password: Option<String>,
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Https").field(&self.url).finish()
    }
}

/// A URL that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// A scheme that is not built in.
    #[error("remote `{remote}`: `{url}` is not a path, not an ssh and not an https address")]
    Unsupported {
        /// The remote's name.
        remote: String,
        /// Without user and password, escaped.
        url: String,
    },
    /// `http://`: whoever is on the way could write requests and read the password.
    #[error("remote `{remote}`: `{url}` is not encrypted")]
    Plain {
        /// The remote's name.
        remote: String,
        /// Without user and password, escaped.
        url: String,
    },
    /// `~/` without a home.
    #[error("remote `{0}`: its path begins with `~`, and `$HOME` is not set")]
    NoHome(String),
    /// Something that `ssh` would take for an option, or nothing at all.
    #[error("remote `{remote}`: `{url}` names no usable host or path")]
    Unusable {
        /// The remote's name.
        remote: String,
        /// Escaped.
        url: String,
    },
}

impl UrlError {
    /// The error as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let problem = Diagnostic::new("E0511", self.to_string()).note(
            "allowed: `/path`, `../path`, `~/path`, `file:///path`, `ssh://user@host/path`, `user@host:path`, `https://host/path`",
        );
        match self {
            Self::Plain { remote, url } => {
                problem.help(format!("git remote set-url {remote} {}", url.replacen("http://", "https://", 1)))
            }
            Self::Unsupported { remote, .. } | Self::Unusable { remote, .. } | Self::NoHome(remote) => {
                problem.help(format!("git remote set-url {remote} ssh://git@HOST/PATH"))
            }
        }
    }
}

impl Repo {
    /// Where the configured remote is; `None` where the repository has no remote of that name.
    ///
    /// # Errors
    /// See [`UrlError`].
    pub fn target_of_remote(&self, to_push: bool) -> Result<Option<Target>, UrlError> {
        let remote = &self.settings.remote;
        let get = |key: &str| {
            let config = self.git.config().and_then(|mut c| c.snapshot()).ok()?;
            config.get_string(&format!("remote.{remote}.{key}")).ok().filter(|url| !url.is_empty())
        };
        let url = if to_push { get("pushurl").or_else(|| get("url")) } else { get("url") };
        let home = std::env::var_os("HOME").map(PathBuf::from);
        url.map(|url| parse(remote, &url, &self.root, home.as_deref())).transpose()
    }
}

fn parse(remote: &str, url: &str, root: &Path, home: Option<&Path>) -> Result<Target, UrlError> {
    let name = || text::line(remote);
    let unusable = || UrlError::Unusable { remote: name(), url: without_passwords(&text::line(url)) };
    if url.contains('\0') {
        return Err(unusable());
    }
    if let Some(path) = url.strip_prefix("file://") {
        let path = percent_decode(path.strip_prefix("localhost").unwrap_or(path)).ok_or_else(unusable)?;
        return if path.starts_with('/') { Ok(Target::Path(PathBuf::from(path))) } else { Err(unusable()) };
    }
    if let Some(rest) = url.strip_prefix("ssh://").or_else(|| url.strip_prefix("git+ssh://")) {
        return ssh_url(rest).ok_or_else(unusable);
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        // A password in a URL must not reach a log.
        let bare = rest.split_once('@').map_or(rest, |(_, host)| host);
        let url = text::line(&format!("{scheme}://{bare}"));
        return match scheme.to_ascii_lowercase().as_str() {
            "https" => https_url(rest).map(Target::Https).ok_or_else(|| UrlError::Unusable { remote: name(), url }),
            "http" => Err(UrlError::Plain { remote: name(), url }),
            _ => Err(UrlError::Unsupported { remote: name(), url }),
        };
    }
    let before_slash = url.split('/').next().unwrap_or_default();
    if let Some((host, _)) = before_slash.split_once(':') {
        let path = &url[host.len() + 1..];
        return if path.starts_with(':') {
            Err(UrlError::Unsupported { remote: name(), url: text::line(url) })
        } else {
            ssh(host, None, path).ok_or_else(unusable)
        };
    }
    let path = match url.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = home.ok_or_else(|| UrlError::NoHome(name()))?;
            home.join(rest.trim_start_matches('/'))
        }
        _ => root.join(url),
    };
    Ok(Target::Path(tidy(&path)))
}

/// Takes `.` and `a/..` out by words, as git does when it names the folder.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

fn ssh_url(rest: &str) -> Option<Target> {
    let (authority, path) = rest.split_at(rest.find('/')?);
    let path = percent_decode(path)?;
    let path = if path.starts_with("/~") { &path[1..] } else { &path };
    let at = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, host) = authority.split_at(at);
    let (host, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|p| !p.is_empty()).map(|p| p.parse().ok()).map_or(Some(None), |p| p.map(Some))?;
    ssh(&percent_decode(&format!("{user}{host}"))?, port, path)
}

fn https_url(rest: &str) -> Option<Https> {
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (account, host) = authority.rsplit_once('@').map_or((None, authority), |(account, host)| (Some(account), host));
    let (user, password) =
        match account.map(|account| account.split_once(':').map_or((account, None), |(u, p)| (u, Some(p)))) {
            Some((user, password)) => (Some(percent_decode(user)?), password.map(percent_decode)),
            None => (None, None),
        };
    let password = match password {
        Some(password) => Some(password?),
        None => None,
    };
    let visible = |text: &str| text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    let line = |text: &Option<String>| text.as_deref().is_none_or(|text| !text.chars().any(char::is_control));
    let fit = !host.is_empty()
        && !host.starts_with([':', '-'])
        && visible(host)
        && visible(path)
        && line(&user)
        && line(&password);
    let given = |text: &String| !text.is_empty();
    fit.then(|| Https {
        url: format!("https://{host}{path}"),
        user: user.filter(given),
        password: password.filter(given),
    })
}

/// Text without what stands before the `@` of URLs: passwords, and users that may be tokens. The user of an ssh address
/// alone is left.
pub(super) fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/?#'\"`<>".contains(c)).unwrap_or(after.len());
        rest = after;
        if let Some(account) = after[..end].rfind('@') {
            let (secret, host) = after.split_at(account);
            out.push_str(if before.ends_with("ssh://") && !secret.contains(':') { secret } else { "***" });
            rest = host;
        }
    }
    out.push_str(rest);
    out
}

/// Refuses a host that `ssh` would read as an option.
fn ssh(host: &str, port: Option<u16>, path: &str) -> Option<Target> {
    let bare = host.rsplit('@').next().unwrap_or_default();
    let fit =
        !bare.is_empty() && !host.starts_with('-') && !bare.starts_with('-') && !host.chars().any(char::is_control);
    let target = || Target::Ssh { host: host.to_owned(), port, path: path.to_owned() };
    (fit && !path.is_empty() && !path.starts_with('-')).then(target)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok().filter(|s| !s.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expect: &str) {
        let got = match parse("origin", url, Path::new("/srv/ops"), Some(Path::new("/home/ana"))) {
            Ok(Target::Path(path)) => path.display().to_string(),
            Ok(Target::Ssh { host, port, path }) => format!("{host} {} {path}", port.unwrap_or(0)),
            Ok(Target::Https(Https { url, user, password })) => {
                format!("{url} {} {}", user.unwrap_or_default(), password.unwrap_or_default())
            }
            Err(e) => format!("error: {e}"),
        };
        assert_eq!(got, expect, "{url}");
    }

    #[test]
    fn urls_go_where_they_say() {
        check("/srv/git/ops.git", "/srv/git/ops.git");
        check("../ops.git", "/srv/ops.git");
        check("./a/../b", "/srv/ops/b");
        check("~/ops.git", "/home/ana/ops.git");
        check("file:///srv/a%20b.git", "/srv/a b.git");
        check("file://localhost/srv/a", "/srv/a");
        check("ssh://git@host:2222/srv/a.git", "git@host 2222 /srv/a.git");
        check("ssh://host/~ana/a.git", "host 0 ~ana/a.git");
        check("ssh://[::1]:22/a", "::1 22 /a");
        check("git@host:ops/a.git", "git@host 0 ops/a.git");
        check("./a:b", "/srv/ops/a:b");
        check("https://host:8443/a.git", "https://host:8443/a.git  ");
        check("https://ana:s3%40r%3At@host/a", "https://host/a ana s3@r:t");
        check("HTTPS://robot@host/a", "https://host/a robot ");
    }

    #[test]
    fn traps_are_refused() {
        check(
            "ssh://-oProxyCommand=x/a",
            "error: remote `origin`: `ssh://-oProxyCommand=x/a` names no usable host or path",
        );
        check("-oProxyCommand=x:a", "error: remote `origin`: `-oProxyCommand=x:a` names no usable host or path");
        check("host:-x", "error: remote `origin`: `host:-x` names no usable host or path");
        check("file://other/srv", "error: remote `origin`: `file://other/srv` names no usable host or path");
        check("http://ana:s3cr3t@host/a", "error: remote `origin`: `http://host/a` is not encrypted");
        check("https://ana:s3cr3t@/a", "error: remote `origin`: `https:///a` names no usable host or path");
        check("https://host/a\nb", "error: remote `origin`: `https://host/a^Jb` names no usable host or path");
        check(
            "ftp://ana:s3cr3t@host/a",
            "error: remote `origin`: `ftp://host/a` is not a path, not an ssh and not an https address",
        );
        check(
            "ext::sh -c x",
            "error: remote `origin`: `ext::sh -c x` is not a path, not an ssh and not an https address",
        );
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        let check = |text: &str, expect: &str| assert_eq!(without_passwords(text), expect);
        check("at 'https://ana:s3cr3t@host/a', https://t0ken@host", "at 'https://***@host/a', https://***@host");
        check("ssh://git@host/a and ssh://git:pw@host/a", "ssh://git@host/a and ssh://***@host/a");
        check("https://a:p@ss@host/a@b://", "https://***@host/a@b://");
        let target = parse("origin", "https://ana:s3cr3t@host/a", Path::new("/"), None).unwrap();
        assert_eq!(format!("{target} {target:?}"), "https://host/a Https(Https(\"https://host/a\"))");
    }
}
