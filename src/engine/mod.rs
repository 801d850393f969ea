//! The state machine of every run. Pure: no clock, file, thread or process.
