//! The table kind -> handler, resource, limits. (That the last good one stays is the daemon's business.)
//!
//! | code | what | rc |
//! |---|---|---|
//! | E0203 | a handler that is missing or not executable: its kind alone is rejected | 78 |
//! | E0204 | several executables for one kind, and no line that chooses | |
//! | E0205 | params that give no resource | 65 |
//! | E0211 | an unknown key of `handlers/index.yml` | |
//! | E0212 | a value there that does not fit | |
//!
//! **Which file.** The folders of `DISPATCHER_HANDLERS` come before `handlers/`, for the files that the index names and
//! for the folder scan. The scan gives an executable `<kind>` or `<kind>.<ext>` at the top of a folder its kind (the name
//! up to the last dot), where the index has no line for the kind and runs the file for no other. `index.yml` and names
//! that editors leave behind (`~`, `.tmp`, `.part`, `.swp`, `.bak`, `.orig`, `.rej`) are never handlers.
//!
//! **`defaults`** may hold what limits a run: `timeout`, `grace`, `memory`, `cpus`, `pids`, `network`, `sandbox`,
//! `max_queue_age`, `retry`, `on_crash`; they hold for kinds of the folder scan too. `sandbox: auto` takes a `strict` of
//! the defaults back.
//!
//! **`retry`** alone means 3 attempts, 5 s before the second, on exit code 75. `on` takes exit codes from 1 to 255
//! (128+n for a signal), `failed` (any exit code but 0, and any signal), `timed_out` and `out_of_memory`. Without
//! `retry` nothing is tried again.

mod fields;
mod index;
mod route;
mod scan;
mod table;
mod template;

pub use route::{
    Container, ContainerEngine, Folder, HandlerSource, Network, OnCrash, Retry, RetryOn, Route, SecretsAs,
};
pub use scan::{ExtraFolder, HandlerFile};
pub use table::{Routed, Table};
pub use template::{NoResource, Template};
