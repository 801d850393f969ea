//! Host configuration: defaults, file, environment, flags, and where each value came from.
//! Also the host's places: where the local state, the control socket and the resource locks of a repository lie.

mod effect;
mod keys;
mod load;
pub mod places;
mod secret_file;
mod secrets;
mod settings;

pub use keys::{Form, KEYS, Key};
pub use load::{DEFAULT_FILE, FILE_VARIABLE, Loaded, Origin};
pub use secret_file::read_secrets;
pub use settings::{Config, HttpsSettings, Identity, LogRotate, Mode, SandboxSettings, Secret, SecretSource};
