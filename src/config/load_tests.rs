//! What each source may say, and the words of every refusal.

use std::fs;

use super::*;
use crate::config::{Mode, Secret, SecretSource};

struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.yml"), text).unwrap();
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    fn load(&self, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, Vec<Diagnostic>> {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        load(&own(flags), own(env).into_iter(), None, &self.file())
    }
}

/// `line:col code message | note | help` of every problem.
fn problems(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Vec<String> {
    let found = Setup::new(text).load(env, flags).unwrap_err();
    let show = |problem: &Diagnostic| {
        let place = problem.place.as_ref().map_or(String::new(), |place| format!("{}:{} ", place.line, place.col));
        let more: String = problem.notes.iter().chain(&problem.help).map(|line| format!(" | {line}")).collect();
        format!("{place}{} {}{more}", problem.code, problem.message)
    };
    found.iter().map(show).collect()
}

const EVERYTHING: &str = "\
remote: upstream
branch: ops/main
fetch_interval: 5s
scan_interval: 10s
git_timeout: 20s
push_retries: 3
https: {token_file: /etc/dispatcher/token, token_credential: git-token, ca_file: /etc/ssl/private-ca.pem}
workers: 8
drain_timeout: 1m
keep_recent: 100
identity: {name: bot, email: bot@ops-1}
sandbox: {user: executor, allow_root: true, cgroup: require, cgroup_path: /sys/fs/cgroup/d, landlock: off, seccomp: auto}
secrets:
  DEPLOY_TOKEN: {file: /etc/dispatcher/secrets/deploy_token, kinds: [deploy]}
  OTHER: {env: OTHER_SECRET, kinds: [a, b]}
  THIRD: {credential: third.cred, kinds: [a]}
log_limit: 1M
log_rotate: {size: 2M, keep: 3}
min_free: 0
listen: 127.0.0.1:9477
webhook_secret_file: /etc/dispatcher/webhook
git_pause: true
lock_dir: /run/lock/d
";

#[test]
fn every_key_is_read_from_the_file() {
    let setup = Setup::new(EVERYTHING);
    let loaded = setup.load(&[], &[]).unwrap();
    let config = &loaded.config;
    let default = Config::default();
    for key in KEYS {
        assert_ne!(key.value(config), None, "{}", key.path);
        let kept = ["sandbox.seccomp"];
        assert_eq!(key.value(config) == key.value(&default), kept.contains(&key.path), "{}", key.path);
        assert!(matches!(loaded.origins[key.path], Origin::File { .. }), "{}", key.path);
    }
    assert_eq!(loaded.file, Some(setup.file()));
    assert_eq!(loaded.origins["sandbox.user"], Origin::File { line: 12 });
    assert_eq!(loaded.origins["secrets.OTHER"], Origin::File { line: 15 });
    assert_eq!(config.sandbox.landlock, Mode::Off);
    assert_eq!(config.keep_recent, 100);
    assert_eq!(
        config.secrets["THIRD"],
        Secret { source: SecretSource::Credential("third.cred".into()), kinds: vec!["a".parse().unwrap()] }
    );
    assert_eq!(
        config.secrets["DEPLOY_TOKEN"].source,
        SecretSource::File("/etc/dispatcher/secrets/deploy_token".into())
    );
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let setup = Setup::new("workers: 2\nlog_rotate: {keep: 2}\n");
    let env =
        [("DISPATCHER_WORKERS", "3"), ("DISPATCHER_SANDBOX_USER", "ana"), ("HOME", "/"), ("DISPATCHER_REMOTE", "")];
    let loaded = setup.load(&env, &[("workers", "5")]).unwrap();
    assert_eq!((loaded.config.workers, &loaded.origins["workers"]), (5, &Origin::Flag));
    let loaded = setup.load(&env, &[]).unwrap();
    assert_eq!(loaded.config.workers, 3);
    assert_eq!(loaded.origins["workers"].to_string(), "environment variable DISPATCHER_WORKERS");
    assert_eq!(loaded.config.sandbox.user.as_deref(), Some("ana"));
    assert_eq!(
        (loaded.config.log_rotate.keep, loaded.origins["log_rotate.keep"].to_string()),
        (2, "file, line 2".into())
    );
    assert_eq!((loaded.config.remote.as_str(), &loaded.origins["remote"]), ("origin", &Origin::Default));
}

#[test]
fn an_empty_file_sets_nothing() {
    for text in ["", "\n", "# nothing yet\n", "---\n"] {
        assert_eq!(Setup::new(text).load(&[], &[]).unwrap().config, Config::default(), "{text:?}");
    }
}

#[test]
fn only_a_named_file_has_to_be_there() {
    let setup = Setup::new("");
    fs::remove_file(setup.file()).unwrap();
    let path = setup.file().display().to_string();
    let loaded = setup.load(&[], &[]).unwrap();
    assert_eq!((loaded.file, loaded.config), (None, Config::default()));
    let gone = format!("cannot read the configuration `{path}`: No such file or directory (os error 2)");
    let by_env = setup.load(&[("DISPATCHER_CONFIG", &path)], &[]).unwrap_err();
    assert_eq!((by_env[0].code, by_env[0].message.as_str()), ("E0801", gone.as_str()));
    assert_eq!(by_env[0].notes, ["named by the environment variable DISPATCHER_CONFIG"]);
    let by_flag = Config::load(&[], std::iter::empty(), Some(&setup.file())).unwrap_err();
    assert_eq!((by_flag[0].code, by_flag[0].message.as_str(), by_flag[0].notes.len()), ("E0801", gone.as_str(), 0));
    let folder = Config::load(&[], std::iter::empty(), Some(setup.folder.path())).unwrap_err();
    assert!(folder[0].message.ends_with("Is a directory (os error 21)"), "{}", folder[0].message);
}

#[test]
fn a_file_that_is_too_large_is_not_read_to_its_end() {
    let error = Config::load(&[], std::iter::empty(), Some(Path::new("/dev/zero"))).unwrap_err();
    assert_eq!(error[0].message, "cannot read the configuration `/dev/zero`: it is larger than 1M");
}

#[test]
fn wrong_files_are_refused_with_all_their_problems() {
    for (text, expect) in [
        (
            "worker: 4\nsandbox: {usr: x, cgroup: on}\n",
            &[
                "1:1 E0803 unknown key `worker` | did you mean `workers`?",
                "2:11 E0803 unknown key `usr` in `sandbox` | did you mean `user`?",
                "2:27 E0804 `sandbox.cgroup` cannot be `on`: give `auto`, `require` or `off`",
            ][..],
        ),
        (
            "workers: 0\nremote: --upload-pack=x\n",
            &[
                "1:10 E0804 `workers` cannot be `0`: give a whole number from 1 to 256",
                "2:9 E0804 `remote` cannot be `--upload-pack=x`: give the name of a git remote, such as `origin`; `git remote -v` lists them",
            ],
        ),
        ("workers: \"4\"\n", &["1:10 E0804 `workers` cannot be the text `4`: give a whole number from 1 to 256"]),
        (
            "fetch_interval: 15\n",
            &[
                "1:17 E0804 `fetch_interval` cannot be `15` without quotes: give a duration from `100ms` to `1d`, such as `90s`",
            ],
        ),
        ("git_pause: yes\n", &["1:12 E0804 `git_pause` cannot be the text `yes`: give `true` or `false`"]),
        ("https:\n", &["1:1 E0804 `https` cannot be empty: give keys and values"]),
        (
            "branch: dispatcher\n",
            &[
                "1:9 E0804 `branch` cannot be `dispatcher`: the archive of old runs lives under this name, take another one",
            ],
        ),
        (
            "sandbox: {user: root}\n",
            &[
                "1:1 E0804 `sandbox.user` cannot be `root` while `sandbox.allow_root` is `false` | name an ordinary user, such as `executor`",
            ],
        ),
        (
            "log_rotate: {size: 1}\n",
            &["1:20 E0804 `log_rotate.size` cannot be `1`: give a size from `4K` to `16G`, such as `64M`"],
        ),
        ("[]\n", &["1:1 E0802 the file is not a mapping"]),
    ] {
        let found = problems(text, &[], &[]);
        if text == "[]\n" {
            assert!(found.len() == 1 && found[0].contains("E0802"), "{found:?}");
        } else {
            assert_eq!(found, expect, "{text}");
        }
    }
}

#[test]
fn wrong_secrets_are_refused() {
    for (text, expect) in [
        ("T: {kinds: [a]}", "2:3 E0804 secret `T` has no source: give exactly one of `file`, `env` and `credential`"),
        (
            "T: {file: /x, env: X, kinds: [a]}",
            "2:3 E0804 secret `T` has `file` and `env`: give exactly one of `file`, `env` and `credential`",
        ),
        ("T: {file: x, kinds: [a]}", "2:13 E0804 `secrets.T.file` cannot be the text `x`: give an absolute path"),
        (
            "T: {credential: a/b, kinds: [a]}",
            "2:19 E0804 `secrets.T.credential` cannot be the text `a/b`: give the name of a systemd credential",
        ),
        ("T: {file: /x}", "2:3 E0804 secret `T` has no `kinds`: list the kinds that may have it"),
        (
            "T: {file: /x, kinds: []}",
            "2:24 E0804 `secrets.T.kinds` cannot be an empty list: list the kinds that may have it, as `[deploy]`",
        ),
        (
            "T: {file: /x, kinds: [a, ../b]}",
            "2:28 E0804 `secrets.T.kinds` cannot hold the text `../b`: give names of kinds",
        ),
        (
            "t: {file: /x, kinds: [a]}",
            "2:3 E0804 a secret cannot be called `t`: give a name of `A-Z`, `0-9` and `_`, first no digit, up to 128 characters",
        ),
        (
            "LD_PRELOAD: {file: /x, kinds: [a]}",
            "2:3 E0804 a secret cannot be called `LD_PRELOAD`: names that start with `LD_` are not yours to set",
        ),
        ("T: {fiel: /x, env: X, kinds: [a]}", "2:7 E0803 unknown key `fiel` in `secrets.T` | did you mean `file`?"),
        ("T: x", "2:6 E0804 `secrets.T` cannot be the text `x`: give keys and values"),
    ] {
        assert_eq!(problems(&format!("secrets:\n  {text}\n"), &[], &[]), [expect], "{text}");
    }
}

#[test]
fn wrong_variables_and_flags_are_refused() {
    assert_eq!(
        problems(
            "",
            &[
                ("DISPATCHER_HANDLERS", "/x"),
                ("DISPATCHER_SECRETS_T_FILE", "/x"),
                ("DISPATCHER_WORKER", "4"),
                ("DISPATCHER_WORKERS", "four"),
            ],
            &[("sandbox.usr", "x"), ("min_free", "lots")],
        ),
        [
            "E0803 unknown environment variable `DISPATCHER_SECRETS_T_FILE` | secrets are configured in the file alone",
            "E0803 unknown environment variable `DISPATCHER_WORKER` | every variable that starts with `DISPATCHER_` is a key of the configuration | did you mean `DISPATCHER_WORKERS`?",
            "E0804 `workers` cannot be `four`: give a whole number from 1 to 256 | it is set by the environment variable DISPATCHER_WORKERS",
            "E0803 unknown key `sandbox.usr` | did you mean `sandbox.user`?",
            "E0804 `min_free` cannot be `lots`: give a size from `0` to `1048576G`, such as `64M` | it is set on the command line",
        ]
    );
    assert_eq!(
        problems("", &[("DISPATCHER_SANDBOX_USER", "0")], &[]),
        [
            "E0804 `sandbox.user` cannot be `root` while `sandbox.allow_root` is `false` | it is set by: environment variable DISPATCHER_SANDBOX_USER | name an ordinary user, such as `executor`"
        ]
    );
}

#[test]
fn no_key_takes_an_empty_text() {
    for key in KEYS {
        assert!((key.set)(&mut Config::default(), "").is_err(), "{}", key.path);
    }
}

#[test]
fn a_configuration_in_the_repository_is_refused() {
    let setup = Setup::new("workers: 2\n");
    let repo = tempfile::tempdir().unwrap();
    let load = |path: &Path| Config::load(&[], std::iter::empty(), Some(path)).unwrap();
    let outside = load(&setup.file());
    outside.refuse_inside(repo.path()).unwrap();
    let inside = repo.path().join("config.yml");
    fs::copy(setup.file(), &inside).unwrap();
    let error = load(&inside).refuse_inside(repo.path()).unwrap_err();
    assert_eq!(
        (error.code, error.message),
        ("E0805", format!("the configuration `{}` lies in the dispatch repository", inside.display()))
    );
    let into = setup.folder.path().join("into.yml");
    std::os::unix::fs::symlink(&inside, &into).unwrap();
    load(&into).refuse_inside(repo.path()).unwrap_err();
    let out = repo.path().join("out.yml");
    std::os::unix::fs::symlink(setup.file(), &out).unwrap();
    load(&out).refuse_inside(repo.path()).unwrap_err();
}

#[test]
fn what_cannot_be_given_is_said() {
    let said = |text: &str, env: &[(&str, &str)]| {
        let loaded = Setup::new(text).load(env, &[]).unwrap();
        let unmet: Vec<String> = loaded
            .unmet()
            .iter()
            .map(|p| {
                let place = p.place.as_ref().map_or(0, |place| place.line);
                format!("{} {place} {} {}", p.code, p.message, p.notes.join("|"))
            })
            .collect();
        (unmet, loaded.idle().map(|warning| format!("{} {}", warning.code, warning.message)))
    };
    assert_eq!(said("workers: 2\nsandbox: {cgroup: auto, landlock: off}\n", &[]), (Vec::new(), None));
    let (unmet, idle) = said(
        "workers: 2\nsandbox:\n  cgroup: require\n  seccomp: require\n",
        &[("DISPATCHER_SANDBOX_LANDLOCK", "require")],
    );
    let message = "`sandbox.cgroup` is `require`, and this version cannot hold handlers by control groups";
    assert_eq!((unmet, idle), (vec![format!("E0809 3 {message} nothing was started with less")], None));
    let (unmet, _) = said("", &[("DISPATCHER_SANDBOX_CGROUP", "require")]);
    assert!(unmet[0].ends_with("|it is set by: environment variable DISPATCHER_SANDBOX_CGROUP"), "{unmet:?}");
    let (unmet, idle) = said(
        "webhook_secret_file: /w\nsecrets:\n  A: {file: /a, kinds: [b]}\nhttps: {ca_file: /c}\n",
        &[("DISPATCHER_GIT_PAUSE", "true")],
    );
    assert_eq!(unmet, Vec::<String>::new());
    assert_eq!(
        idle.unwrap(),
        "E0810 set, and without effect in this version: `git_pause` (environment variable DISPATCHER_GIT_PAUSE), `webhook_secret_file` (file, line 1)"
    );
}
