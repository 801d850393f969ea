//! The one integration binary: real processes, real files, the real program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot get at its world has failed")]

mod checkout;
mod launcher;
mod life;
mod load;
mod odd;
mod torture;
mod world;
