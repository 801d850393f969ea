//! The one integration binary: real processes, real files, the real program.

mod checkout;
mod launcher;
mod life;
mod load;
mod odd;
mod torture;
mod world;
