//! Who we are to an https remote: the token or password of the host's configuration, of the URL, or of nobody, in which
//! case git asks its credential helpers. Read anew for each conversation, so that a changed token needs no restart.
//! Refuses a file that others can read or change; a value never gets into a message, an argument or `Debug`.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::remote::Https;
use crate::diagnostic::Diagnostic;
use crate::text;

/// The longest token file, in bytes.
const LONGEST: u64 = 16 << 10;

/// The user's name where a token comes without one: what the forges ask for is a name, whichever.
const NOBODY: &str = "x-access-token";

/// Where the host's configuration has the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// `https.token_file`.
    File(PathBuf),
    /// `https.token_credential`: a file that systemd made for this service alone.
    Credential(String),
}

/// How https remotes are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpsSettings {
    /// A token, or `user:password`.
    pub token: Option<Token>,
    /// Certificates that the remote is trusted by; none: the system's.
    pub ca_file: Option<PathBuf>,
}

/// A file of the `https` section that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The token.
    #[error("the token in `{path}` cannot be used: {why}")]
    Token {
        /// The file.
        path: String,
        /// Why not.
        why: String,
        /// What to do about it.
        help: String,
    },
    /// A systemd credential without systemd.
    #[error("`https.token_credential` is `{0}`, and systemd has given this process no credentials")]
    NoCredentials(String),
    /// The certificates.
    #[error("the certificates in `{path}` cannot be read: {why}")]
    Authority {
        /// The file.
        path: String,
        /// Why not.
        why: String,
    },
}

impl LoginError {
    /// The error as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Token { help, .. } => Diagnostic::new("E0537", self.to_string())
                .note("nothing was sent; the remote was not asked without it")
                .help(help.clone()),
            Self::NoCredentials(name) => Diagnostic::new("E0537", self.to_string())
                .note("`$CREDENTIALS_DIRECTORY` is not set")
                .help(format!("LoadCredential={name}:/etc/dispatcher/token     in the service's unit"))
                .help("or `https.token_file` in the host configuration"),
            Self::Authority { .. } => Diagnostic::new("E0541", self.to_string())
                .help("`https.ca_file` in the host configuration names a PEM file that the dispatcher's user can read"),
        }
    }
}

/// User and password.
pub(super) struct Login {
    user: String,
    password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// What is to be sent along; `None` where the account's credential helpers are to be asked.
    pub(super) fn find(settings: &HttpsSettings, https: &Https) -> Result<Option<Self>, LoginError> {
        let path = match &settings.token {
            Some(Token::File(path)) => path.clone(),
            Some(Token::Credential(name)) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
                Some(folder) => Path::new(&folder).join(name),
                None => return Err(LoginError::NoCredentials(text::line(name))),
            },
            None => {
                let user = https.user.clone().unwrap_or_default();
                return Ok(https.password.clone().map(|password| Self { user, password }));
            }
        };
        // systemd lets in whom it wants, by access lists that look like a mode for the group.
        let strict = matches!(settings.token, Some(Token::File(_)));
        let text = read(&path, strict)?;
        let (user, password) = match &https.user {
            // The URL says who it is; a password may have a colon of its own.
            Some(user) => (user.as_str(), text.strip_prefix(&format!("{user}:")).unwrap_or(&text)),
            None => text.split_once(':').unwrap_or((NOBODY, &text)),
        };
        Ok(Some(Self { user: user.to_owned(), password: password.to_owned() }))
    }

    /// The header that carries it.
    pub(super) fn header(&self) -> String {
        format!("Authorization: Basic {}", base64(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

/// The one line of a token file.
fn read(path: &Path, strict: bool) -> Result<String, LoginError> {
    let shown = text::line(&path.to_string_lossy());
    let bad = |why: String, help: String| LoginError::Token { path: shown.clone(), why, help };
    let refill = || format!("install -m 0600 /dev/stdin {shown}     then the token or `user:password`, Enter, Ctrl-D");
    let mine = nix::unistd::geteuid().as_raw();
    let io = |e: std::io::Error| {
        let help = match e.kind() {
            std::io::ErrorKind::PermissionDenied => format!("chown {mine} {shown}"),
            _ => refill(),
        };
        bad(e.to_string(), help)
    };
    // Without waiting for a writer where it is a pipe.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(bad("it is not a regular file".into(), refill()));
    }
    if strict && meta.uid() != mine && meta.uid() != 0 {
        return Err(bad(format!("it belongs to user {}", meta.uid()), format!("chown {mine} {shown}")));
    }
    // Its group may read it: that is how a secret of root's is given to a service.
    if strict && meta.mode() & 0o027 != 0 {
        let why = format!("its mode is {:04o}, others can get at it", meta.mode() & 0o7777);
        return Err(bad(why, format!("chmod 0600 {shown}     and make a new token: this one was open to others")));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LONGEST {
        return Err(bad(format!("it has more than {LONGEST} bytes"), refill()));
    }
    let Ok(content) = std::str::from_utf8(&bytes) else { return Err(bad("it is not UTF-8".into(), refill())) };
    let mut lines = content.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(line) = lines.next() else { return Err(bad("it is empty".into(), refill())) };
    if lines.next().is_some() {
        return Err(bad("it has more than one line".into(), refill()));
    }
    if line.chars().any(char::is_control) {
        return Err(bad("it has a control character".into(), refill()));
    }
    Ok(line.to_owned())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let whole = chunk.iter().chain([&0, &0]).take(3).fold(0_u32, |whole, &byte| whole << 8 | u32::from(byte));
        for at in 0..4 {
            let digit = DIGITS[(whole >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_file_is_one_line_that_others_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let settings = HttpsSettings { token: Some(Token::File(path.clone())), ca_file: None };
        let check = |user: Option<&str>, content: &[u8], mode: u32, expect: &str| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let https =
                Https { url: "https://host/a".into(), user: user.map(str::to_owned), password: Some("no".into()) };
            let got = match Login::find(&settings, &https) {
                Ok(login) => login.map_or_else(String::new, |login| format!("{} {}", login.user, login.password)),
                Err(e) => {
                    let text = e.diagnostic().render();
                    assert!(
                        text.starts_with("error[E0537]") && text.contains("= help:") && !text.contains("s3cr3t"),
                        "{text}"
                    );
                    e.to_string().split("cannot be used: ").nth(1).unwrap().to_owned()
                }
            };
            assert_eq!(got, expect, "{mode:o}");
        };
        check(None, b"s3cr3t\n", 0o600, "x-access-token s3cr3t");
        check(Some("robot"), b"\n s3cr3t\r\n", 0o640, "robot s3cr3t");
        check(Some("robot"), b"s3:cr3t", 0o400, "robot s3:cr3t");
        check(Some("robot"), b"robot:s3:cr3t", 0o400, "robot s3:cr3t");
        check(None, b"ana:s3:cr3t", 0o400, "ana s3:cr3t");
        check(None, b"s3cr3t", 0o644, "its mode is 0644, others can get at it");
        check(None, b"s3cr3t", 0o620, "its mode is 0620, others can get at it");
        check(None, b" \n", 0o600, "it is empty");
        check(None, b"s3cr3t\nmore\n", 0o600, "it has more than one line");
        check(None, b"s3cr3t\x1b", 0o600, "it has a control character");
        check(None, b"s3cr3t\xff", 0o600, "it is not UTF-8");
        check(None, &[b'x'; 20_000], 0o600, "it has more than 16384 bytes");
        fs::remove_file(&path).unwrap();
        let https = Https { url: String::new(), user: None, password: None };
        let error = Login::find(&settings, &https).unwrap_err();
        assert!(error.to_string().ends_with("cannot be used: No such file or directory (os error 2)"), "{error}");
    }

    #[test]
    fn headers_are_basic() {
        let header = |user: &str, password: &str| {
            let login = Login { user: user.into(), password: password.into() };
            assert_eq!(format!("{login:?}"), "Login");
            login.header()
        };
        assert_eq!(header("Aladdin", "open sesame"), "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        for (text, expect) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\u{ff}", "w78=")]
        {
            assert_eq!(base64(text.as_bytes()), expect);
        }
    }
}
