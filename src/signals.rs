//! Signals as values on a channel.
