//! Where the places are for whom, and which folders are not trusted.

use std::os::unix::fs::symlink;

use super::*;

fn places(uid: u32, env: &[(&str, &str)]) -> Result<[String; 3], String> {
    let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let found = Places::find(&Config::default(), Host { env: &env, uid }, Path::new("/nowhere/ops"));
    let show = |place: &Place| format!("{} {:?}", place.path.display(), place.access);
    found.map(|p| [show(&p.state), show(&p.runtime), show(&p.lock)]).map_err(|e| e.message)
}

#[test]
fn places_follow_the_environment() {
    let id = repo_id(Path::new("/nowhere/ops"));
    assert_eq!(id.len(), 12);
    let check = |uid, env: &[(&str, &str)], expect: [&str; 3]| {
        assert_eq!(places(uid, env).unwrap(), expect.map(|text| text.replace("ID", &id)), "{uid} {env:?}");
    };
    let root = ["/var/lib/dispatcher/ID Through", "/run/dispatcher Open", "/run/lock/dispatcher Open"];
    check(0, &[], root);
    check(0, &[("XDG_RUNTIME_DIR", "/run/user/0"), ("XDG_STATE_HOME", "/x"), ("HOME", "/root")], root);
    check(
        0,
        &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"), ("RUNTIME_DIRECTORY", "/run/a")],
        ["/var/lib/a Through", "/run/a Open", "/run/lock/dispatcher Open"],
    );
    check(
        1000,
        &[("HOME", "/home/ana"), ("XDG_RUNTIME_DIR", "/run/user/1000")],
        [
            "/home/ana/.local/state/dispatcher/ID Through",
            "/run/user/1000/dispatcher Own",
            "/run/user/1000/dispatcher/lock Own",
        ],
    );
    check(
        1000,
        &[("HOME", "/home/ana"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "relative")],
        [
            "/s/dispatcher/ID Through",
            "/tmp/dispatcher-1000 OwnAmongStrangers",
            "/tmp/dispatcher-1000/lock OwnAmongStrangers",
        ],
    );
    assert_eq!(places(1000, &[]).unwrap_err(), "there is no folder for the local state: `HOME` is not set");
}

#[test]
fn a_configured_lock_dir_wins() {
    let config = Config { lock_dir: Some("/srv/locks".into()), ..Config::default() };
    assert_eq!(lock_dir(&config, Host { env: &|_| None, uid: 0 }).path, Path::new("/srv/locks"));
}

#[test]
fn the_id_is_that_of_the_real_path() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link");
    symlink(folder.path(), &link).unwrap();
    assert_eq!(repo_id(&link), repo_id(folder.path()));
    assert_eq!(repo_id(Path::new("/")), "8a5edab28263", "SHA-256 of `/`");
}

#[test]
fn missing_folders_are_made_with_their_mode_whatever_the_umask() {
    let top = tempfile::tempdir().unwrap();
    let uid = top.path().metadata().unwrap().uid();
    for (access, mode) in [(Access::Through, 0o711), (Access::Open, 0o755), (Access::Own, 0o700)] {
        let path = top.path().join(format!("{access:?}/inner"));
        let place = Place::new(&path, access);
        place.make(uid).unwrap();
        place.make(uid).unwrap();
        for made in [path.as_path(), path.parent().unwrap()] {
            assert_eq!(made.metadata().unwrap().mode() & 0o7777, mode, "{access:?}");
        }
    }
}

#[test]
fn folders_of_strangers_are_refused() {
    let top = tempfile::tempdir().unwrap();
    let uid = top.path().metadata().unwrap().uid();
    let path = |name: &str| top.path().join(name);
    let folder = |name: &str, mode| {
        fs::create_dir(path(name)).unwrap();
        fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
    };
    folder("writable", 0o777);
    folder("sticky", 0o1777);
    folder("readable", 0o755);
    folder("own", 0o700);
    symlink(path("own"), path("link")).unwrap();
    symlink(path("nothing"), path("dangling")).unwrap();
    fs::write(path("file"), "").unwrap();
    let other = uid + 1;
    let check = |name: &str, access, uid, expect: Option<&str>| {
        let found = Place::new(path(name), access).make(uid).err().map(|problem| problem.message);
        let expect = expect.map(|why| format!("the folder `{}` cannot be used: {why}", path(name).display()));
        assert_eq!(found, expect, "{name} {access:?}");
    };
    use Access::{Open, OwnAmongStrangers, Through};
    check("writable", OwnAmongStrangers, uid, Some("its mode is 0777, others can get at it"));
    check("writable", Through, uid, Some("its mode is 0777, others can get at it"));
    check("sticky", Open, uid, Some("its mode is 1777, others can get at it"));
    check("readable", OwnAmongStrangers, uid, Some("its mode is 0755, others can get at it"));
    check("readable", Open, uid, None);
    check("own", OwnAmongStrangers, uid, None);
    check("link", OwnAmongStrangers, uid, Some("it is a symlink"));
    check("link", Through, uid, None);
    check("dangling", OwnAmongStrangers, uid, Some("it is a symlink"));
    check("file", OwnAmongStrangers, uid, Some("it is not a folder"));
    let belongs = format!("it belongs to user {uid}, not to user {other}");
    check("own", OwnAmongStrangers, other, Some(&belongs));
    let help = Place::new(path("readable"), OwnAmongStrangers).make(uid).unwrap_err().help;
    assert_eq!(help, [format!("chmod 700 {}", path("readable").display())]);
}

#[test]
fn locks_are_not_made_below_a_folder_of_a_stranger() {
    let top = tempfile::tempdir().unwrap();
    let uid = top.path().metadata().unwrap().uid();
    let above = top.path().join("shared");
    fs::create_dir(&above).unwrap();
    fs::set_permissions(&above, Permissions::from_mode(0o777)).unwrap();
    let place = Place { above: Some(above.clone()), ..Place::new(above.join("lock"), Access::OwnAmongStrangers) };
    place.make(uid).unwrap_err();
    assert!(!above.join("lock").exists());
}

#[test]
fn a_noexec_mount_is_refused() {
    check_exec(Path::new("/")).unwrap();
    let problem = refuse_noexec(Path::new("/tmp/x"), FsFlags::ST_NOEXEC | FsFlags::ST_NOSUID).unwrap_err();
    assert_eq!(
        (problem.code, problem.message.as_str()),
        ("E0808", "the local state `/tmp/x` lies on a `noexec` mount")
    );
    assert_eq!(check_exec(Path::new("/nowhere")).unwrap_err().code, "E0807");
}
