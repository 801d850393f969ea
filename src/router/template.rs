//! The resource of a request out of its params: `{params.service}-{params.env}`. Knows text, numbers and switches;
//! refuses to guess where a param is missing.

use serde_json::{Number, Value};

use crate::request::{Request, Resource};

/// A parsed resource template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Kind,
    Param(Vec<String>),
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a request has no resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoResource {
    /// The template names a param that the request does not have.
    #[error("the resource `{template}` needs `params.{param}`, which is missing")]
    Missing {
        /// As in the table.
        template: String,
        /// Dotted, below `params`.
        param: String,
    },
    /// The param is a list or a mapping.
    #[error("the resource `{template}` needs `params.{param}` to be text, a number or `true`/`false`, not {found}")]
    NotScalar {
        /// As in the table.
        template: String,
        /// Dotted, below `params`.
        param: String,
        /// What it is.
        found: &'static str,
    },
    /// What comes out cannot be a resource.
    #[error("the resource `{template}` gives {why}")]
    Unfit {
        /// As in the table.
        template: String,
        /// What is wrong with it.
        why: String,
    },
}

impl NoResource {
    /// JSON pointer of the param at fault, where it is one.
    #[must_use]
    pub fn pointer(&self) -> String {
        match self {
            Self::Missing { param, .. } | Self::NotScalar { param, .. } => {
                format!("/params/{}", param.replace('.', "/"))
            }
            Self::Unfit { .. } => "/params".to_owned(),
        }
    }
}

impl Template {
    /// Parses `{kind}` and `{params.<path>}` among literal text. Names in a path are of `A-Z a-z 0-9 _ -`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, from) = rest.split_at(open);
            let Some((name, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}')) else {
                return Err("a `{` and a `}` belong together, as in `{params.service}`".to_owned());
            };
            if !literal.is_empty() {
                parts.push(Part::Text(literal.to_owned()));
            }
            parts.push(placeholder(name)?);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() || text.len() > 500 || text.chars().any(char::is_control) {
            return Err("give 1 to 500 characters of one line, such as `{params.service}-{params.env}`".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The resource of a kind that has no template: its own name.
    #[must_use]
    pub fn kind() -> Self {
        Self { text: "{kind}".to_owned(), parts: vec![Part::Kind] }
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The resource of `request`.
    ///
    /// # Errors
    /// Why it has none.
    pub fn fill(&self, request: &Request) -> Result<Resource, NoResource> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Kind => name.push_str(request.kind.as_str()),
                Part::Param(path) => name.push_str(&self.param(request, path)?),
            }
        }
        let unfit = |why| NoResource::Unfit { template: self.text.clone(), why };
        match name.parse() {
            Ok(resource) => Ok(resource),
            Err(_) if name.is_empty() => Err(unfit("an empty name".to_owned())),
            Err(_) if name.len() > 80 => Err(unfit(format!("a name of {} bytes, 80 are allowed", name.len()))),
            Err(_) => Err(unfit("a name with control characters".to_owned())),
        }
    }

    fn param(&self, request: &Request, path: &[String]) -> Result<String, NoResource> {
        let (template, param) = (self.text.clone(), path.join("."));
        let mut value = path.first().and_then(|first| request.params.get(first));
        for name in path.iter().skip(1) {
            value = value.and_then(|above| above.as_object()?.get(name));
        }
        match value {
            None | Some(Value::Null) => Err(NoResource::Missing { template, param }),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Bool(switch)) => Ok(switch.to_string()),
            Some(Value::Number(number)) => Ok(plain(number)),
            Some(Value::Array(_)) => Err(NoResource::NotScalar { template, param, found: "a list" }),
            Some(Value::Object(_)) => Err(NoResource::NotScalar { template, param, found: "a mapping" }),
        }
    }
}

/// A number in one spelling: JSON Schema takes `7.0` for the integer 7, and both have to mean the same lock.
fn plain(number: &Number) -> String {
    /// Up to here every whole `f64` is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => format!("{:.0}", float + 0.0),
        _ => number.to_string(),
    }
}

fn placeholder(name: &str) -> Result<Part, String> {
    if name == "kind" {
        return Ok(Part::Kind);
    }
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match name.strip_prefix("params.") {
        Some(path) if path.split('.').all(word) => Ok(Part::Param(path.split('.').map(str::to_owned).collect())),
        _ => Err(format!("`{{{name}}}` stands for nothing: give `{{kind}}` or `{{params.<name>}}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, params: &str) -> Result<String, String> {
        let request = Request {
            kind: "deploy".parse().unwrap(),
            params: serde_json::from_str(params).unwrap(),
            resource: None,
            id: None,
            priority: 0,
            timeout: None,
            not_before: None,
            expires_at: None,
            reason: None,
            dry_run: false,
        };
        let resource = Template::parse(template)?.fill(&request);
        resource.map(|resource| resource.to_string()).map_err(|error| format!("{} {error}", error.pointer()))
    }

    #[test]
    fn templates_become_resources() {
        let long = "x".repeat(81);
        for (template, params, expect) in [
            ("{params.service}-{params.env}", r#"{"service": "web", "env": "prod"}"#, Ok("web-prod")),
            ("{kind}/{params.a.b}", r#"{"a": {"b": 7}}"#, Ok("deploy/7")),
            ("host-{params.n}", r#"{"n": 7.0}"#, Ok("host-7")),
            ("host-{params.n}", r#"{"n": -0.0}"#, Ok("host-0")),
            ("host-{params.n}", r#"{"n": 7.25}"#, Ok("host-7.25")),
            ("host-{params.n}", r#"{"n": 18446744073709551615}"#, Ok("host-18446744073709551615")),
            ("{params.on}", r#"{"on": true}"#, Ok("true")),
            ("all hosts", "{}", Ok("all hosts")),
            ("{params.x}", "{}", Err("/params/x the resource `{params.x}` needs `params.x`, which is missing")),
            (
                "{params.x}",
                r#"{"x": null}"#,
                Err("/params/x the resource `{params.x}` needs `params.x`, which is missing"),
            ),
            (
                "{params.a.b}",
                r#"{"a": "b"}"#,
                Err("/params/a/b the resource `{params.a.b}` needs `params.a.b`, which is missing"),
            ),
            (
                "{params.x}",
                r#"{"x": [1]}"#,
                Err(
                    "/params/x the resource `{params.x}` needs `params.x` to be text, a number or `true`/`false`, not a list",
                ),
            ),
            ("{params.x}", r#"{"x": ""}"#, Err("/params the resource `{params.x}` gives an empty name")),
            (
                "{params.x}",
                &format!(r#"{{"x": "{long}"}}"#),
                Err("/params the resource `{params.x}` gives a name of 81 bytes, 80 are allowed"),
            ),
            (
                "{params.x}",
                r#"{"x": "a\nb"}"#,
                Err("/params the resource `{params.x}` gives a name with control characters"),
            ),
            ("{x}", "{}", Err("`{x}` stands for nothing: give `{kind}` or `{params.<name>}`")),
            ("{params.}", "{}", Err("`{params.}` stands for nothing: give `{kind}` or `{params.<name>}`")),
            ("{params.a", "{}", Err("a `{` and a `}` belong together, as in `{params.service}`")),
            ("a}", "{}", Err("a `{` and a `}` belong together, as in `{params.service}`")),
            ("", "{}", Err("give 1 to 500 characters of one line, such as `{params.service}-{params.env}`")),
        ] {
            let expect = expect.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(fill(template, params), expect, "{template} {params}");
        }
    }
}
