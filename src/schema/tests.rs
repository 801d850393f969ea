use super::*;
use std::collections::BTreeMap;
struct C;
impl Catalog for C {
    fn kinds(&self) -> Vec<String> {
        vec!["deploy".into(), "backup".into(), "naked".into(), "open".into()]
    }
    fn facts(&self, kind: &crate::request::Kind) -> Option<KindFacts> {
        self.kinds()
            .contains(&kind.to_string())
            .then_some(KindFacts { takes_resource: kind.as_str() == "open", dry_run: kind.as_str() == "open" })
    }
}
#[test]
fn shows() {
    let files = BTreeMap::from([
        (
            "requests.yml".to_owned(),
            br##"
deploy:
  properties:
    service: {type: string, pattern: "^[a-z-]+$", maxLength: 10}
    env: {enum: [dev, prod]}
    n: {type: integer, minimum: 1}
    db: {type: object, required: [host], properties: {host: {type: string}, port: {type: integer}}}
    target: {oneOf: [{type: string}, {properties: {x: {type: integer}}, required: [x]}]}
  required: [service, env]
backup: {$ref: "b.yml"}
open: {allOf: [{$ref: "b.yml#/$defs/base"}, {properties: {y: {type: string}}}]}
only: {type: object}
"##
            .to_vec(),
        ),
        (
            "b.yml".to_owned(),
            br##"
$defs: {base: {type: object, properties: {x: {type: integer}}}}
$ref: "#/$defs/base"
properties: {z: {type: boolean}}
"##
            .to_vec(),
        ),
    ]);
    let s = match Schemas::load(&files) {
        Ok(s) => s,
        Err(e) => {
            for p in e {
                println!("{}", p.render())
            }
            panic!()
        }
    };
    for k in s.kinds() {
        println!("{k}: {}", s.compiled(k).unwrap().bundle);
    }
    for y in [
        "kind: deploy\nparams:\n  servce: web\n  env: prd\n  n: 0\n  db: {hots: a}\n  target: {x: a}\n",
        "kind: restart\n",
        "kind: dploy\nprioritty: 3\npriority: 200\nid: x\ntimeout: 0s\nnot_before: tomorrow\n",
        "kind: naked\nparams: {a: 1, b: [x]}\n",
        "kind: only\n",
        "kind: deploy\nresource: x\ndry_run: true\nparams: {service: web, env: prod}\n",
        "kind: open\nparams: {x: 1, y: a}\n",
        "kind: open\nparams: {x: 1, y: a, z: true}\n",
        "kind: open\nparams: {x: a, y: 1}\n",
        "kind: backup\nparams: {x: 1, z: true, q: 1}\n",
        "params:\n",
        "kind: deploy\nparams: {service: 12, env: yes, n: \"3\", target: 4}\nnot_before: 2026-11-24T00:00:00Z\nexpires_at: 2026-11-23T00:00:00Z\n",
    ] {
        match parse(y.as_bytes(), "requests/r.yml", &s, &C) {
            Ok(r) => println!("OK {r:?}"),
            Err(r) => {
                println!("--- {y:?} rc {}", r.rc);
                for p in r.problems {
                    println!("{}   ptr {:?}", p.render(), p.pointer)
                }
            }
        }
    }
}
