//! The pool of named worker threads that carry runs out.
