//! "Did you mean": the known name that is nearest to a written one, where one is near.

use crate::text::nearest;

/// ``did you mean `x`?`` where a name is near.
pub(super) fn did_you_mean<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    nearest(written, known).map(|name| format!("did you mean `{}`?", crate::yaml::cut(name)))
}

/// Names in backquotes, at most eight of them.
pub(super) fn list<'k>(names: impl IntoIterator<Item = &'k str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let shown: Vec<_> = names.iter().take(8).map(|name| format!("`{}`", crate::yaml::cut(name))).collect();
    let more = if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
    shown.join(", ") + &more
}
