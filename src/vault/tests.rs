use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::*;

fn secret(path: &Path, kinds: &[&str]) -> Secret {
    let kinds = kinds.iter().map(|kind| kind.parse().unwrap()).collect();
    Secret { source: SecretSource::File(path.to_owned()), kinds }
}

fn kind(name: &str) -> Kind {
    name.parse().unwrap()
}

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// What is said of a file as a secret, or its value.
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        let vault = Vault::new([("TOKEN".to_owned(), secret(path, &["deploy"]))].into());
        match vault.take(&kind("deploy"), &["TOKEN".to_owned()], false) {
            Ok(values) => Ok(values[0].1.expose().to_vec()),
            Err(problem) => {
                assert_eq!(problem.code, "E0610");
                Err(problem.message.clone())
            }
        }
    }
}

#[test]
fn a_kind_gets_what_it_may_have() {
    let case = Case::new();
    let path = case.write("t", "s3cret-value\n", 0o600);
    let vault = Vault::new([("TOKEN".to_owned(), secret(&path, &["deploy"]))].into());
    let names = ["TOKEN".to_owned()];
    let whole = vault.take(&kind("deploy"), &names, true).unwrap();
    assert_eq!(whole[0].1.expose(), b"s3cret-value\n", "as a file, byte for byte");
    assert_eq!(vault.mask().text("s3cret-value\n"), "[masked]\n");
    let values = vault.take(&kind("deploy"), &names, false).unwrap();
    assert_eq!((values[0].0.as_str(), values[0].1.expose()), ("TOKEN", &b"s3cret-value"[..]));
    assert_eq!(vault.mask().text("x s3cret-value"), "x [masked]");
    assert_eq!(vault.allows(&kind("deploy"), &names), Ok(()));
    for (kind_name, name, expect) in [
        ("backup", "TOKEN", "handlers of this kind may not have it"),
        ("deploy", "OTHER", "this host has none of that name"),
    ] {
        let names = [name.to_owned()];
        for refused in [
            vault.take(&kind(kind_name), &names, false).unwrap_err(),
            vault.allows(&kind(kind_name), &names).unwrap_err(),
        ] {
            assert!(refused.code == "E0609" && refused.message.contains(expect), "{refused:?}");
        }
    }
    assert!(!format!("{vault:?}").contains("s3cret"));
}

#[test]
fn a_rotated_value_is_seen_at_the_next_run_and_the_old_one_stays_masked() {
    let case = Case::new();
    let path = case.write("t", "first-value-1", 0o600);
    let vault = Vault::new([("TOKEN".to_owned(), secret(&path, &["deploy"]))].into());
    assert_eq!(vault.read_all(), []);
    assert_eq!(vault.mask().text("first-value-1"), "[masked]", "before anybody asked");
    let first = vault.mask();
    case.write("t", "second-value-2", 0o600);
    let values = vault.take(&kind("deploy"), &["TOKEN".to_owned()], false).unwrap();
    assert_eq!(values[0].1.expose(), b"second-value-2");
    assert_eq!(vault.mask().text("first-value-1 second-value-2"), "[masked] [masked]");
    assert_eq!(first.text("second-value-2"), "second-value-2", "a mask does not change");
    let second = vault.mask();
    vault.take(&kind("deploy"), &["TOKEN".to_owned()], false).unwrap();
    assert!(Arc::ptr_eq(&second, &vault.mask()), "made anew only where a value has changed");
    for n in 0..30 {
        case.write("t", format!("value-number-{n}"), 0o600);
        vault.take(&kind("deploy"), &["TOKEN".to_owned()], false).unwrap();
    }
    assert_eq!(vault.mask().text("value-number-29 value-number-14 first-value-1"), "[masked] [masked] first-value-1");
    vault.configure(BTreeMap::new());
    assert_eq!(vault.mask().text("value-number-29"), "[masked]", "not configured any more, and still out there");
}

#[test]
fn files_that_others_could_read_or_change_are_refused() {
    let case = Case::new();
    for (mode, good) in
        [(0o600, true), (0o400, true), (0o640, true), (0o440, true), (0o644, false), (0o660, false), (0o602, false)]
    {
        let path = case.write(&format!("m{mode:o}"), "s3cret-value", mode);
        let read = case.read(&path);
        assert_eq!(read.is_ok(), good, "{mode:o}: {read:?}");
    }
    let path = case.write("linked", "s3cret-value", 0o600);
    symlink(&path, case.dir.path().join("link")).unwrap();
    assert!(case.read(&case.dir.path().join("link")).is_ok());
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(case.read(&path).unwrap_err().contains("belongs to user 65534"));
    }
    assert!(case.read(case.dir.path()).unwrap_err().contains("not a regular file"));
    assert!(case.read(&case.dir.path().join("absent")).unwrap_err().contains("No such file"));
    nix::unistd::mkfifo(&case.dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(case.read(&case.dir.path().join("fifo")).unwrap_err().contains("not a regular file"));
}

#[test]
fn values_that_cannot_be_masked_are_refused() {
    let case = Case::new();
    let read = |bytes: &[u8]| case.read(&case.write("v", bytes, 0o600));
    assert_eq!(read(b"12345678\n").unwrap(), b"12345678");
    assert_eq!(read(b"12345678\r\n").unwrap(), b"12345678");
    assert_eq!(read(b"1234567\n\n").unwrap(), b"1234567\n", "one newline is not part of it");
    for short in [&b""[..], b"\n", b"1234567\n", "üüüüüüü".as_bytes()] {
        assert!(read(short).unwrap_err().contains("fewer than 8 characters"));
    }
    assert_eq!(read(&[b'x'; 64 << 10]).unwrap().len(), 64 << 10);
    assert!(read(&[b'x'; (64 << 10) + 1]).unwrap_err().contains("larger than 64 KiB"));
    assert!(read(b"with\0zero-byte").unwrap_err().contains("no variable can hold its zero byte"));
    let message = read(b"hunter2").unwrap_err();
    assert!(!message.contains("hunter"), "{message}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_there() {
    let case = Case::new();
    let good = secret(&case.write("t", "s3cret-value", 0o600), &["deploy"]);
    let source = |source| Secret { source, kinds: vec![kind("deploy")] };
    let vault = Vault::new(
        [
            ("GOOD".to_owned(), good),
            ("HOME_DIR".to_owned(), source(SecretSource::Env("DISPATCHER_TEST_IS_NOT_SET".into()))),
            ("UNIT".to_owned(), source(SecretSource::Credential("none".into()))),
        ]
        .into(),
    );
    let problems = vault.read_all();
    let said: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(said[0], "secret `HOME_DIR` from variable `DISPATCHER_TEST_IS_NOT_SET` cannot be used: it is not set");
    assert!(said[1].starts_with("secret `UNIT` from credential `none` cannot be used"), "{said:?}");
    assert!(vault.mask().finds(b"s3cret-value"));
}
