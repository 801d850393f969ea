//! "Did you mean": the known name that is nearest to a written one, where one is near.

/// The nearest of `known`, if it is near enough to have been meant.
pub(super) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Long text is not a misspelt name, and the distance is quadratic.
    if written.chars().count() > 80 {
        return None;
    }
    let lower = written.to_lowercase();
    let allowed = 1 + written.chars().count() / 4;
    known
        .into_iter()
        .filter(|name| *name != written && name.len() <= 200)
        .filter_map(|name| {
            let other = name.to_lowercase();
            let short = lower.len().min(other.len());
            let distance = if short >= 3 && (lower.starts_with(&other) || other.starts_with(&lower)) {
                1
            } else {
                strsim::damerau_levenshtein(&lower, &other)
            };
            (distance <= allowed && distance < short).then_some((distance, name))
        })
        .min()
        .map(|(_, name)| name)
}

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
