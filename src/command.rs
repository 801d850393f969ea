//! What a person can ask a running daemon for, and what it answers.
