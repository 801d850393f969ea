//! YAML bytes to a `Request`, or all problems with their places. The only home of the JSON Schema crate.
