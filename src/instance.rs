//! One daemon per repository.
