//! The table kind -> handler, resource, limits; the last good one is kept.
