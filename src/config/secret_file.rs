//! Files that hold a secret: read when it is needed, so that a new one needs no restart. Refuses a file that others may
//! read or change; a value never gets into a message.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::diagnostic::Diagnostic;

/// Longest file, in bytes.
const LONGEST: u64 = 4 << 10;
/// Most secrets that count at the same time.
const MOST: usize = 4;
/// Shortest secret, in bytes: less can be guessed.
const SHORTEST: usize = 8;

/// The secrets of a file, one per line: while one is replaced by another, both are there. Spaces count.
///
/// # Errors
/// E0820 with the file and what is wrong with it.
pub fn read_secrets(path: &Path) -> Result<Vec<Vec<u8>>, Diagnostic> {
    let bad = |why: &dyn std::fmt::Display| {
        Diagnostic::new("E0820", format!("the secret in `{}` cannot be used: {why}", path.display()))
    };
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| bad(&error).help("it must be readable by the dispatcher's user"))?;
    let meta = file.metadata().map_err(|error| bad(&error))?;
    if !meta.is_file() {
        return Err(bad(&"it is not a regular file"));
    }
    let mine = nix::unistd::geteuid().as_raw();
    if meta.uid() != mine && meta.uid() != 0 {
        return Err(bad(&format!("it belongs to user {}", meta.uid())).help(format!("chown {mine} {}", path.display())));
    }
    // Its group may read it: that is how a secret of root's is given to a service.
    if meta.mode() & 0o037 != 0 {
        let problem = bad(&format!("its mode is {:04o}, others can get at it", meta.mode() & 0o7777));
        return Err(problem.help(format!("chmod 0640 {}", path.display())));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| bad(&error))?;
    if bytes.len() as u64 > LONGEST {
        return Err(bad(&format!("it has more than {LONGEST} bytes")));
    }
    let lines = bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let secrets: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    match secrets.len() {
        0 => Err(bad(&"it is empty")),
        n if n > MOST => Err(bad(&format!("it has {n} lines, and at most {MOST} secrets count"))),
        _ if secrets.iter().any(|secret| secret.len() < SHORTEST) => {
            let problem = bad(&format!("it has a secret of less than {SHORTEST} bytes"));
            Err(problem.help(format!("openssl rand -hex 32 > {}", path.display())))
        }
        _ => Ok(secrets),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn secrets_are_lines_of_a_file_that_others_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook");
        let check = |text: &str, mode: u32, expect: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let got = match read_secrets(&path) {
                Ok(secrets) => secrets.iter().map(|one| String::from_utf8_lossy(one)).collect::<Vec<_>>().join("|"),
                Err(problem) => problem.message.split("cannot be used: ").nth(1).unwrap().to_owned(),
            };
            assert_eq!(got, expect, "{text:?} {mode:o}");
        };
        check("correct horse\n", 0o600, "correct horse");
        check("new secret\r\n\nold secret", 0o640, "new secret|old secret");
        check("correct horse", 0o644, "its mode is 0644, others can get at it");
        check("correct horse", 0o620, "its mode is 0620, others can get at it");
        check("", 0o600, "it is empty");
        check("\n\n", 0o600, "it is empty");
        check("short\n", 0o600, "it has a secret of less than 8 bytes");
        check("12345678\n".repeat(5).as_str(), 0o600, "it has 5 lines, and at most 4 secrets count");
        check("x".repeat(4_097).as_str(), 0o600, "it has more than 4096 bytes");
    }

    #[test]
    fn links_are_followed_and_other_things_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), "correct horse").unwrap();
        fs::set_permissions(path("a"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("a", path("b")).unwrap();
        assert_eq!(read_secrets(&path("b")).unwrap().len(), 1);
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        for name in [".", "pipe", "missing"] {
            assert_eq!(read_secrets(&path(name)).unwrap_err().code, "E0820", "{name}");
        }
    }
}
