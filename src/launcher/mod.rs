//! The small process that forks a supervisor per run.
