//! The one integration binary: real processes, real files, the real program.

mod launcher;
