//! The closed environment of a handler (CONTRACT section 5). Nothing of the dispatcher's own gets in.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::plan::Plan;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest value of a `PARAM_` variable.
const LONGEST: usize = 32 << 10;

/// Where the files of a run lie.
pub(super) struct Files<'a> {
    pub home: &'a Path,
    pub tmp: &'a Path,
    pub request: &'a Path,
    pub params: &'a Path,
    pub result: &'a Path,
    pub progress: &'a Path,
}

/// Every variable, each name once: the fixed ones, the plan's (which may replace those), then what the dispatcher
/// says, which nothing replaces.
pub(super) fn environment(plan: &Plan, files: &Files<'_>) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut env = vec![
        ("PATH".to_owned(), PATH.to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("HOME".to_owned(), text(files.home)),
        ("TMPDIR".to_owned(), text(files.tmp)),
    ];
    let told = [
        ("ID", plan.id.to_string()),
        ("KIND", plan.kind.to_string()),
        ("RESOURCE", plan.resource.to_string()),
        ("ATTEMPT", plan.attempt.to_string()),
        ("REQUEST", text(files.request)),
        ("PARAMS", text(files.params)),
        ("RESULT", text(files.result)),
        ("PROGRESS", text(files.progress)),
        ("DEADLINE", plan.deadline.to_string()),
    ];
    let told = told.into_iter().map(|(name, value)| (format!("DISPATCH_{name}"), value));
    let dry_run = plan.dry_run.then(|| ("DISPATCH_DRY_RUN".to_owned(), "1".to_owned()));
    let ours = |name: &str| name.starts_with("DISPATCH_") || name.starts_with("PARAM_");
    let theirs = plan.env.iter().filter(|(name, _)| !ours(name)).cloned();
    for (name, value) in theirs.chain(told).chain(dry_run).chain(params(&plan.params)) {
        match env.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => env.push((name, value)),
        }
    }
    env
}

/// Each scalar param as `PARAM_<NAME>`. Names that become the same are left out, all of them, whatever their values.
fn params(params: &Map<String, Value>) -> Vec<(String, String)> {
    let mut count: HashMap<String, usize> = HashMap::new();
    let names: Vec<Option<String>> = params.keys().map(|key| name(key)).collect();
    for name in names.iter().flatten() {
        *count.entry(name.clone()).or_default() += 1;
    }
    let pairs = names.into_iter().zip(params.values());
    pairs.filter_map(|(name, value)| Some((name.filter(|n| count.get(n) == Some(&1))?, scalar(value)?))).collect()
}

fn name(key: &str) -> Option<String> {
    let fits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    fits.then(|| format!("PARAM_{}", key.to_ascii_uppercase().replace(['-', '.'], "_")))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => (text.len() <= LONGEST && !text.contains('\0')).then(|| text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(given: Value, expect: &[(&str, &str)]) {
        let got = params(given.as_object().unwrap());
        let got: Vec<(&str, &str)> = got.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn scalars_become_variables() {
        check(
            json!({"service": "web", "n": 3, "f": 1.50, "big": 1e300, "neg": -0.5, "yes": true, "no": false}),
            &[
                ("PARAM_SERVICE", "web"),
                ("PARAM_N", "3"),
                ("PARAM_F", "1.5"),
                ("PARAM_BIG", "1e+300"),
                ("PARAM_NEG", "-0.5"),
                ("PARAM_YES", "true"),
                ("PARAM_NO", "false"),
            ],
        );
        check(json!({"none": null, "list": [1], "map": {"a": 1}, "": "x"}), &[]);
        check(json!({"a-b.c_D9": "x", "multi": "a\nb"}), &[("PARAM_A_B_C_D9", "x"), ("PARAM_MULTI", "a\nb")]);
        check(json!({"a b": 1, "a=b": 1, "ä": 1, "a\nb": 1}), &[]);
    }

    #[test]
    fn colliding_names_are_left_out() {
        check(json!({"a-b": 1, "A_B": 2, "a.b": null, "c": 3}), &[("PARAM_C", "3")]);
        check(json!({"a-b": {}, "a_b": 2}), &[]);
    }

    #[test]
    fn values_that_do_not_fit_are_left_out() {
        check(json!({"nul": "a\u{0}b"}), &[]);
        check(json!({"long": "x".repeat(LONGEST + 1)}), &[]);
        assert_eq!(params(json!({"fits": "x".repeat(LONGEST)}).as_object().unwrap()).len(), 1);
    }
}
