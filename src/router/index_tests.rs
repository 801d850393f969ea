//! Every key of the table, and the words of every refusal.

use super::*;

fn index(handlers: &str) -> Index {
    Index::read(format!("version: 1\n{handlers}").as_bytes()).unwrap()
}

/// `line:col code message | help` of every problem.
fn problems(text: &str) -> Vec<String> {
    let show = |problem: &Diagnostic| {
        let place = problem.place.as_ref().map_or(String::new(), |place| format!("{}:{} ", place.line, place.col));
        let help: String = problem.help.iter().map(|line| format!(" | {line}")).collect();
        format!("{place}{} {}{help}", problem.code, problem.message)
    };
    Index::read(text.as_bytes()).unwrap_err().iter().map(show).collect()
}

const EVERYTHING: &str = r#"
defaults: {timeout: 5m, grace: 3s, memory: 64M, pids: 32}
handlers:
  backup: backup.py
  deploy:
    run: bin/deploy.sh
    resource: "{params.service}-{params.env}"
    timeout: 10m
    grace: 20s
    memory: 256M
    cpus: 1.5
    pids: 64
    network: none
    write: [/var/lib/deploy]
    env: {TIER: gold}
    secrets: [DEPLOY_TOKEN]
    secrets_as: file
    sandbox: strict
    max_queue_age: 1h
    retry: {attempts: 4, backoff: 1s, on: [75, timed_out, out_of_memory, failed]}
    on_crash: fail
    dry_run: true
    container: {image: "registry.example/deploy:1", engine: docker}
    description: "Roll out a service"
"#;

#[test]
fn every_key_is_read() {
    let index = index(EVERYTHING);
    let deploy = &index.lines[&"deploy".parse().unwrap()];
    let expect = Route {
        kind: "deploy".parse().unwrap(),
        file: builtin("bin/deploy.sh".into()),
        resource: Some(Template::parse("{params.service}-{params.env}").unwrap()),
        timeout: Duration::from_secs(600),
        grace: Duration::from_secs(20),
        memory: 256 << 20,
        cpus: Some(1_500),
        pids: 64,
        network: Network::None,
        write: vec!["/var/lib/deploy".into()],
        env: BTreeMap::from([("TIER".into(), "gold".into())]),
        secrets: vec!["DEPLOY_TOKEN".into()],
        secrets_as: SecretsAs::File,
        strict: true,
        max_queue_age: Some(Duration::from_secs(3_600)),
        retry: Retry {
            attempts: 4,
            backoff: Duration::from_secs(1),
            on: vec![RetryOn::Code(75), RetryOn::TimedOut, RetryOn::OutOfMemory, RetryOn::Failed],
        },
        on_crash: OnCrash::Fail,
        dry_run: true,
        container: Some(Container { image: "registry.example/deploy:1".into(), engine: ContainerEngine::Docker }),
        description: Some("Roll out a service".into()),
    };
    assert_eq!(deploy.route, expect);
    assert_eq!((deploy.place.line, deploy.place.col), (7, 10));
}

#[test]
fn defaults_hold_for_short_lines_and_scanned_kinds() {
    let index = index(EVERYTHING);
    let backup = &index.lines[&"backup".parse().unwrap()].route;
    let scanned = index.scanned("other".parse().unwrap(), builtin("other.sh".into()));
    for route in [backup, &scanned] {
        assert_eq!(
            (route.timeout, route.grace, route.memory, route.pids),
            (Duration::from_secs(300), Duration::from_secs(3), 64 << 20, 32)
        );
    }
    let bare = Index::read(b"version: 1\n").unwrap().scanned("x".parse().unwrap(), builtin("x".into()));
    assert_eq!((bare.timeout, bare.grace), (Duration::from_secs(900), Duration::from_secs(10)));
    assert_eq!((bare.memory, bare.pids, bare.cpus), (512 << 20, 256, None));
    assert_eq!((bare.retry, bare.on_crash, bare.network), (Retry::never(), OnCrash::Rerun, Network::Host));
}

#[test]
fn what_is_left_out_of_retry_and_container_is_filled_in() {
    let index = index(
        "defaults: {sandbox: strict}\nhandlers:\n  a: {run: a, retry: {}, sandbox: auto, container: {image: x}}\n",
    );
    let route = &index.lines[&"a".parse().unwrap()].route;
    assert_eq!(route.retry, Retry { attempts: 3, backoff: Duration::from_secs(5), on: vec![RetryOn::Code(75)] });
    assert!(!route.strict);
    assert_eq!(route.container.as_ref().unwrap().engine, ContainerEngine::Podman);
}

#[test]
fn wrong_tables_are_refused_with_all_their_problems() {
    for (text, expect) in [
        (
            "handlers: {}\n",
            &["1:1 E0212 `version` is missing in handlers/index.yml: its first line is `version: 1`"][..],
        ),
        ("version: 2\n", &["1:10 E0212 `version` cannot be `2`: give `1`"]),
        (
            "version: 1\nhandler: {}\ndefaults: {timeout: 1m, resource: x}\n",
            &[
                "2:1 E0211 unknown key `handler` | did you mean `handlers`?",
                "3:25 E0211 unknown key `resource` in `defaults` | known here: `timeout`, `grace`, `memory`, `cpus`, `pids`, `network`, `sandbox`, `max_queue_age`, `retry`, `on_crash`",
            ],
        ),
        ("version: 1\nhandlers: [a]\n", &["2:11 E0212 `handlers` cannot be a list: give kinds and handlers"]),
        (
            "version: 1\nhandlers:\n  a b: x\n  -c: x\n",
            &[
                "3:3 E0212 `a b` is not a kind: 1 to 64 of `A-Z a-z 0-9 . _ -`, first a letter or digit",
                "4:3 E0212 `-c` is not a kind: 1 to 64 of `A-Z a-z 0-9 . _ -`, first a letter or digit",
            ],
        ),
        (
            "version: 1\nhandlers:\n  a: {timeout: 10}\n  b: 7\n  c: ../c\n",
            &[
                "3:3 E0212 `a` has no `run`: name its file in handlers/, such as `run: a.sh`",
                "3:16 E0212 `handlers.a.timeout` cannot be `10`: give a duration from `100ms` to `30d`, such as `90s`",
                "4:6 E0212 `handlers.b` cannot be `7`: give keys and values",
                "5:6 E0212 `handlers.c` cannot be the text `../c`: give a file in handlers/, such as `deploy.sh`",
            ],
        ),
    ] {
        assert_eq!(problems(text), expect, "{text}");
    }
    assert_eq!(Index::read(b"version: 1\nhandlers: &a {}\n").unwrap_err()[0].code, "E0115");
}

#[test]
fn wrong_values_are_refused() {
    let file = "give a file in handlers/, such as `deploy.sh`";
    let variable = "give a name of `A-Z`, `a-z`, `0-9` and `_`, first no digit, up to 128 characters";
    let duration = "give a duration from `100ms` to `30d`, such as `90s`";
    for (value, expect) in [
        ("run: /bin/sh", format!("`handlers.a.run` cannot be the text `/bin/sh`: {file}")),
        ("run: x/../../y", format!("`handlers.a.run` cannot be the text `x/../../y`: {file}")),
        ("run: ./x", format!("`handlers.a.run` cannot be the text `./x`: {file}")),
        ("run: x/", format!("`handlers.a.run` cannot be the text `x/`: {file}")),
        ("run: index.yml", format!("`handlers.a.run` cannot be the text `index.yml`: {file}")),
        ("run: \"\"", format!("`handlers.a.run` cannot be the text ``: {file}")),
        ("timeout: 0s", format!("`handlers.a.timeout` cannot be the text `0s`: {duration}")),
        ("timeout: 31d", format!("`handlers.a.timeout` cannot be the text `31d`: {duration}")),
        ("timeout: null", format!("`handlers.a.timeout` cannot be empty: {duration}")),
        (
            "memory: 64m",
            "`handlers.a.memory` cannot be the text `64m`: give a size from `1M` to `16384G`, such as `64M`".into(),
        ),
        ("memory: 100", "`handlers.a.memory` cannot be `100`: give a size from `1M` to `16384G`, such as `64M`".into()),
        ("pids: 0", "`handlers.a.pids` cannot be `0`: give a whole number from 1 to 100000".into()),
        ("pids: \"9\"", "`handlers.a.pids` cannot be the text `9`: give a whole number from 1 to 100000".into()),
        ("cpus: 0", "`handlers.a.cpus` cannot be `0`: give a number from 0.01 to 1024, such as `1.5`".into()),
        ("cpus: x", "`handlers.a.cpus` cannot be the text `x`: give a number from 0.01 to 1024, such as `1.5`".into()),
        ("network: lan", "`handlers.a.network` cannot be the text `lan`: give `none` or `host`".into()),
        ("sandbox: off", "`handlers.a.sandbox` cannot be the text `off`: give `strict` or `auto`".into()),
        ("on_crash: retry", "`handlers.a.on_crash` cannot be the text `retry`: give `rerun` or `fail`".into()),
        ("secrets_as: x", "`handlers.a.secrets_as` cannot be the text `x`: give `env` or `file`".into()),
        ("dry_run: yes", "`handlers.a.dry_run` cannot be the text `yes`: give `true` or `false`".into()),
        (
            "resource: \"{param.x}\"",
            "`handlers.a.resource` cannot be the text `{param.x}`: `{param.x}` stands for nothing: give `{kind}` or `{params.<name>}`".into(),
        ),
        ("write: /x", "`handlers.a.write` cannot be the text `/x`: give a list".into()),
        (
            "write: [/x/../y]",
            "`handlers.a.write` cannot hold the text `/x/../y`: give an absolute path without `..`, and not `/` itself".into(),
        ),
        (
            "write: [/]",
            "`handlers.a.write` cannot hold the text `/`: give an absolute path without `..`, and not `/` itself".into(),
        ),
        (
            "write: [/sys/fs/cgroup]",
            "`handlers.a.write` cannot hold the text `/sys/fs/cgroup`: a handler cannot be let into `/proc`, `/sys` and `/dev`".into(),
        ),
        ("write: [/x, /x]", "`handlers.a.write` names the text `/x` twice".into()),
        ("env: {A-B: x}", format!("a variable cannot be called `A-B`: {variable}")),
        (
            "env: {DISPATCH_ID: x}",
            "a variable cannot be called `DISPATCH_ID`: names that start with `DISPATCH_` are not yours to set".into(),
        ),
        (
            "env: {LD_PRELOAD: x}",
            "a variable cannot be called `LD_PRELOAD`: names that start with `LD_` are not yours to set".into(),
        ),
        ("env: {A: 1}", "`handlers.a.env.A` cannot be `1`: give text, in double quotes".into()),
        (
            "secrets: [PARAM_X]",
            "`handlers.a.secrets` cannot hold the text `PARAM_X`: names that start with `PARAM_` are not yours to set".into(),
        ),
        ("env: {T: x}, secrets: [T]", "`T` is in `env` and in `secrets`".into()),
        ("max_queue_age: 1", "`handlers.a.max_queue_age` cannot be `1`: give a duration from `100ms` to `3650d`, such as `90s`".into()),
        (
            "retry: {attempts: 0}",
            "`handlers.a.retry.attempts` cannot be `0`: give a whole number from 1 to 100".into(),
        ),
        (
            "retry: {on: [0]}",
            "`handlers.a.retry.on` cannot hold `0`: give an exit code from 1 to 255, `failed`, `timed_out` or `out_of_memory`".into(),
        ),
        (
            "retry: {on: [crashed]}",
            "`handlers.a.retry.on` cannot hold the text `crashed`: give an exit code from 1 to 255, `failed`, `timed_out` or `out_of_memory`".into(),
        ),
        ("container: {engine: podman}", "a `container` needs an `image`".into()),
        (
            "container: {image: --privileged}",
            "`handlers.a.container.image` cannot be the text `--privileged`: give an image, such as `registry.example/deploy:1`".into(),
        ),
        (
            "container: {image: x, engine: lxc}",
            "`handlers.a.container.engine` cannot be the text `lxc`: give `podman` or `docker`".into(),
        ),
        (
            "description: \"a\\nb\"",
            "`handlers.a.description` cannot be the text `a^Jb`: give one line of up to 200 characters".into(),
        ),
    ] {
        let run = if value.starts_with("run") { "" } else { "run: a.sh, " };
        let found = Index::read(format!("version: 1\nhandlers:\n  a: {{{run}{value}}}\n").as_bytes()).unwrap_err();
        let messages: Vec<&str> = found.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, [expect], "{value}");
        assert_eq!((found[0].code, found[0].place.as_ref().map(|place| place.line)), ("E0212", Some(3)));
    }
}
