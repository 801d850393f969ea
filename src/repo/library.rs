//! libgit2's process-wide switches, set once. Owns them all: no configuration from outside the repository, durable
//! writes, few open files, and our own transport under a scheme that nobody can type by accident.

use std::sync::OnceLock;

use git2::ConfigLevel;

use super::error::{Doing, RepoError};
use super::transport;

/// Packs that libgit2 keeps open. Every commit makes one, and without a limit all of them stay open.
const OPEN_PACKS: libc::size_t = 64;

/// Sets the switches at the first call; later calls return the first one's result.
pub(super) fn prepare() -> Result<(), RepoError> {
    static DONE: OnceLock<Result<(), RepoError>> = OnceLock::new();
    DONE.get_or_init(set).clone()
}

#[expect(
    unsafe_code,
    reason = "libgit2's options are process-wide; they are set once, before the first repository opens"
)]
fn set() -> Result<(), RepoError> {
    let doing = "prepare libgit2";
    for level in [ConfigLevel::System, ConfigLevel::Global, ConfigLevel::XDG, ConfigLevel::ProgramData] {
        // An `insteadOf` or `safe.directory` of some account must not decide what a daemon does.
        // SAFETY: runs once under the `OnceLock`, before any other use of libgit2 in this process.
        unsafe { git2::opts::set_search_path(level, "") }.doing(doing)?;
    }
    // SAFETY: as above. `open` checks the owner itself, by the rule of this program.
    unsafe { git2::opts::set_verify_owner_validation(false) }.doing(doing)?;
    // SAFETY: as above; a global that is read when a pack is opened.
    unsafe { git2::opts::set_mwindow_file_limit(OPEN_PACKS) }.doing(doing)?;
    let on: libc::c_int = 1;
    // SAFETY: as above; the option takes one int. Packs that are fetched or written are durable before a ref names them.
    unsafe { libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_ENABLE_FSYNC_GITDIR as libc::c_int, on) };
    // SAFETY: as above: registered before the first remote is made.
    unsafe { git2::transport::register(transport::SCHEME, transport::connect) }.doing(doing)
}
