//! Strict YAML: bytes to one JSON value with the place of every part, or one problem. The only home of the YAML crates.
