//! One file per verb; exit codes in one place.
