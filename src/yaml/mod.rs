//! Strict YAML: bytes to one JSON value with the place of every part, or one problem. The only home of the YAML crates.
//!
//! Three steps, each only on what the one before accepted: the bytes (`preflight`), one event pass that refuses all
//! that YAML has beyond plain data and remembers where everything is (`events`), and the value itself through
//! `serde_yaml` (`strict`). Both passes must come to the same value; where they do not, the file is refused.
//!
//! Refused, each with a place:
//!
//! | code | what |
//! |---|---|
//! | E0101 | not YAML |
//! | E0110 | larger than the limit |
//! | E0111 | not UTF-8 |
//! | E0112 | a byte order mark, anywhere |
//! | E0113 | a control character (all but tab and line ends), a Unicode line separator |
//! | E0114 | a character that changes the direction of text |
//! | E0115 | an anchor |
//! | E0116 | an alias |
//! | E0117 | a tag, also `!!str` |
//! | E0118 | a merge key |
//! | E0119 | several documents |
//! | E0120 | a key that is there twice |
//! | E0121 | nested too deeply |
//! | E0122 | too many values |
//! | E0123 | a key that is not a string |
//! | E0124 | an empty document |
//! | E0125 | not a mapping at the top |
//! | E0126 | a number that JSON cannot hold |
//! | E0127 | a value that two YAML readers read differently |
//! | E0128 | a `%` directive |

mod document;
mod events;
mod preflight;
mod scalar;
mod strict;
mod syntax;
#[cfg(test)]
mod tests;

pub(crate) use document::escape;
pub use document::{Document, Part, read};
pub use preflight::Limits;
pub(crate) use syntax::cut;
