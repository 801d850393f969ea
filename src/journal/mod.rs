//! Event streams and human logs.
