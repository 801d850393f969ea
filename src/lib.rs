//! Git is the message bus and the state database: a request committed into `requests/` is checked, routed, locked,
//! run in a sandbox, logged, recorded in `processed/<id>/` and pushed.

pub mod backoff;
pub(crate) mod checkout;
pub mod cli;
pub mod command;
pub mod config;
pub mod console;
pub mod control;
pub mod daemon;
pub mod dashboard;
pub mod diagnostic;
pub mod engine;
pub mod event;
pub mod executor;
pub mod inbox;
pub mod instance;
pub mod journal;
pub mod launcher;
pub mod locks;
pub mod mask;
pub mod quantity;
pub mod queue;
pub(crate) mod reading;
pub mod repo;
pub mod request;
pub mod router;
pub mod runs;
pub mod sandbox;
pub mod schema;
pub mod secret;
pub mod signals;
pub mod status;
pub mod text;
pub mod time;
pub mod vault;
pub mod yaml;
