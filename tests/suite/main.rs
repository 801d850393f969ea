//! The one integration binary: real processes, real files, the real program.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests fail their test, and say what they saw"
)]

mod checkout;
mod disk;
mod fsck;
mod half;
mod launcher;
mod life;
mod load;
mod odd;
mod poke;
mod power;
mod remotes;
mod servers;
mod torture;
mod transport;
mod watch;
mod world;
