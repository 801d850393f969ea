//! Real servers on loopback for the tests that need them: OpenSSH, and nginx with `git http-backend`. Each serves the
//! folder of a [`World`](crate::world::World) and ends with the test. Refuses to pass over a missing one where
//! `DISPATCHER_ALL_TOOLS` is set, as in `.ci/run`; elsewhere a test without its server says so and ends.

mod https;
mod ssh;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

pub use https::{Https, PASSWORD};
pub use ssh::Ssh;

/// The full path of a program; servers lie where an ordinary user does not look.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// The full paths of programs of which all are there.
///
/// Where one is missing, `None`, said past the harness, which keeps what a good test prints to itself.
pub fn programs<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let found = names.map(program);
    if let Some(at) = found.iter().position(Option::is_none) {
        let missing = names[at];
        assert!(std::env::var_os("DISPATCHER_ALL_TOOLS").is_none(), "`{missing}` is not installed");
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(std::io::stderr(), "NOT TESTED: {test}: there is no `{missing}` on this machine");
        return None;
    }
    Some(found.map(Option::unwrap_or_default))
}

/// A server with all that it started; killed at the end of its scope.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).process_group(0).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// A program that makes something and has to succeed.
#[track_caller]
fn make(program: &Path, at: &Path, args: &[&str]) -> String {
    let output = Command::new(program).current_dir(at).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{} {args:?}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
