//! The ways to a remote: a path, ssh and https, each against the real server.

mod life;
mod refused;
mod stop;
mod trace;

use crate::servers::PASSWORD;
