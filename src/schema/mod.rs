//! YAML bytes to a `Request`, or all problems with their places. The only home of the JSON Schema crate.
//!
//! [`Schemas`] are the kinds' schemas, read once and compiled; [`parse()`] checks a request's envelope by [`envelope()`]'s
//! table and its `params` by the kind's schema. Refused are references to anything but a file beside
//! `schema/requests.yml`, keywords that JSON Schema does not have, and look-around in patterns.
//!
//! | code | what | rc |
//! |---|---|---|
//! | E0201 | a kind that nothing here knows | 64 |
//! | E0202 | a kind that has a schema and no handler | 78 |
//! | E0301 | the envelope: an unknown or missing field, or a value that does not fit | 65 |
//! | E0302 | `params` do not fit the kind's schema | 65 |
//! | E0303 | a kind without a line in `schema/requests.yml` | 78 |
//! | E0304 | `resource` where the router makes it | 65 |
//! | E0305 | `dry_run` where the handler does not declare it | 65 |
//! | E0306 | `expires_at` before `not_before` | 65 |
//! | E0310 | a schema that is not one | |
//! | E0311 | a keyword that JSON Schema does not have | |
//! | E0312 | a `$ref` that leads nowhere, or out of `schema/` | |
//! | E0313 | a pattern that cannot be used | |
//! | E0314 | a format that JSON Schema does not have | |
//! | E0315 | a schema that refers to itself without going deeper | |
//! | E0316 | a key of `schema/requests.yml` that is not a kind | |

mod compile;
mod envelope;
mod lint;
mod load;
mod parse;
mod problem;
mod refs;
mod suggest;
#[cfg(test)]
mod tests;

pub use envelope::envelope;
pub use load::Schemas;
pub use parse::{Catalog, KindFacts, parse};
