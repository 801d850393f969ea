//! Channels, threads, the one `select!`, performing effects.
