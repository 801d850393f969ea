//! The git repository: read the branch, commit results by tree edit, fetch, fast-forward, replay, push. Owns every
//! access to git; refuses to run anything that comes from the repository's content (hooks, filters, attributes), to
//! rewrite what other people made, and to write over what a person edited or staged.
//!
//! One thread owns a [`Repo`]; a second one opened on the same folder does the network verbs beside it.
//!
//! ```text
//! remote ──fetch──▶ refs/remotes/R/B ──integrate──▶ refs/heads/B ──push──▶ remote
//!                                                      ▲ commit
//! refs/dispatcher/seen/R/B        the remote tip that was integrated or pushed last
//! refs/dispatcher/overrule/R/B    the remote tip that a person ordered to be replaced
//! refs/heads/dispatcher/archive   old runs, by day; never checked out, only ever grows
//! refs/dispatcher/kept/<oid>      a side as it was when a person decided about a rewritten remote
//! ```

mod access;
mod archive;
mod archiving;
mod audit;
mod beneath;
mod checkout;
mod commit;
mod divergence;
mod error;
mod fetch;
mod forward;
mod history;
mod holder;
mod https;
mod index;
mod init;
mod integrate;
mod library;
mod lock;
mod login;
mod obstacle;
mod open;
mod pack;
mod person;
mod push;
mod read;
mod record;
mod refs;
mod remote;
mod repack;
mod replay;
mod send;
mod torn;
mod transport;
mod tree;
mod wire;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use archive::{Archive, Archived};
pub use archiving::Retired;
pub use audit::{Audit, Breach};
pub use checkout::CheckoutState;
pub use commit::{CommitError, Committed, Content, RecordFile, RunRecord, TakenRequest, is_short};
pub use divergence::Decided;
pub use error::RepoError;
pub use fetch::{FetchError, FetchOutcome};
pub use git2::Oid;
pub use history::Withdrawn;
pub use init::{NewFile, clone_path, init, init_bare};
pub use integrate::{Elsewhere, Integrated, TakenPath};
pub use login::{HttpsSettings, LoginError, Token};
pub use obstacle::{Blocked, Why};
pub use open::{Identity, OpenError, Repo, Settings};
pub use push::{PushError, PushOutcome};
pub use read::TreeFile;
pub use record::{Recorded, fitting};
pub use remote::{Target, UrlError};
pub use wire::Stopper;
