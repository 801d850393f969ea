//! The human ANSI log.
