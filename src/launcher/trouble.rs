//! The words for a handler that could not be started.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::errno::Errno;

use super::protocol::{Report, RunSpec, Stage};
use crate::text;

/// A start that failed in the launcher or the supervisor.
pub(super) fn refused(stage: Stage, error: &io::Error, what: &str) -> Report {
    Report::Refused { stage, errno: error.raw_os_error().unwrap_or(0), message: format!("{what}: {error}"), help: None }
}

/// A start that ended without a word of the system.
pub(super) fn gone(stage: Stage, message: &str) -> Report {
    Report::Refused { stage, errno: 0, message: message.to_owned(), help: None }
}

/// A start that failed in the leader.
pub(super) fn explain(spec: &RunSpec, stage: Stage, errno: Errno) -> Report {
    let system = errno.desc();
    let (message, help) = match stage {
        Stage::Exec => exec(&spec.program, errno),
        Stage::User => (format!("failed to switch to the handlers' user: {system}"), None),
        Stage::Privileges => (format!("failed to give up all privileges: {system}"), None),
        Stage::Folder => (format!("the handlers' user cannot enter its work folder: {system}"), None),
        Stage::Walls => (
            format!("failed to hold the handler by Landlock, its system calls or its network: {system}"),
            Some("dispatcher selftest     shows what this machine can do".to_owned()),
        ),
        Stage::Fork | Stage::Prepare | Stage::Gate => {
            (format!("failed to prepare the handler's process: {system}"), None)
        }
    };
    Report::Refused { stage, errno: errno as i32, message, help }
}

fn exec(program: &Path, errno: Errno) -> (String, Option<String>) {
    let name = program.file_name().map_or_else(String::new, |name| text::line(&name.to_string_lossy()));
    let first = shebang(program);
    let say =
        |why: String, help: &str| (format!("handler `{name}` {why}"), Some(help.to_owned()).filter(|h| !h.is_empty()));
    match (errno, first) {
        (Errno::ENOENT, Some(line)) if program.exists() => {
            let returns = if line.ends_with('\r') {
                "end its lines with LF instead of CRLF"
            } else {
                "install it, or correct the first line"
            };
            say(format!("names an interpreter that this machine lacks: `{}`", text::line(&line)), returns)
        }
        (Errno::ENOENT, None) if program.exists() => say(
            "needs a program loader that this machine lacks".to_owned(),
            "build it for this machine, or link it statically",
        ),
        (Errno::ENOENT, _) => say("is not there any more".to_owned(), ""),
        (Errno::ENOEXEC, _) => say(
            "is neither a program of this machine nor a script with a `#!` line".to_owned(),
            "begin it with a line such as `#!/bin/sh`",
        ),
        (Errno::ETXTBSY, _) => say("is still open for writing".to_owned(), ""),
        (Errno::E2BIG, _) => say(
            "cannot be started: its environment is too large for this machine".to_owned(),
            "pass fewer or shorter params; the handler can read all of them from `$DISPATCH_PARAMS`",
        ),
        (Errno::EACCES, _) => {
            let mode = program.metadata().map_or(0, |meta| meta.permissions().mode());
            if mode & 0o111 == 0 {
                say("is not executable".to_owned(), "git update-index --chmod=+x, or chmod +x")
            } else {
                say(
                    "may not be executed by the handlers' user".to_owned(),
                    "look at the folders above it, at its interpreter, and for a `noexec` mount",
                )
            }
        }
        (errno, _) => say(format!("cannot be started: {}", errno.desc()), ""),
    }
}

/// What follows `#!` in the first line.
fn shebang(program: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(program).ok()?.take(256).read_to_end(&mut bytes).ok()?;
    let line = bytes.split(|&b| b == b'\n').next()?.strip_prefix(b"#!")?;
    Some(String::from_utf8_lossy(line).trim_start().to_owned())
}
