//! What a handler finds: its environment, descriptors, folders, user and privileges.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use dispatcher::executor::Ended;
use dispatcher::launcher::{Launcher, StartError};
use nix::unistd::geteuid;

use super::stage::{Stage, setup};

#[test]
fn the_environment_is_closed() {
    let stage = Stage::new();
    let mut plan = stage.script("env -0 | tr '\\0' '\\n'");
    plan.params = serde_json::from_str(r#"{"service": "web", "a-b": 1, "a_b": 2, "n": 1.5, "none": null}"#).unwrap();
    plan.env =
        vec![("TIER".into(), "gold".into()), ("DISPATCH_ID".into(), "forged".into()), ("LANG".into(), "C".into())];
    plan.dry_run = true;
    let work = stage.path().join("work").join(format!("{}.1", plan.id));
    let work = work.display();
    let expect = format!(
        "DISPATCH_ATTEMPT=1\nDISPATCH_DEADLINE={}\nDISPATCH_DRY_RUN=1\nDISPATCH_ID={}\nDISPATCH_KIND=deploy\n\
         DISPATCH_PARAMS={work}/params.json\nDISPATCH_PROGRESS={work}/progress\nDISPATCH_REQUEST={work}/request.yml\n\
         DISPATCH_RESOURCE={}\nDISPATCH_RESULT={work}/result.json\nHOME={work}/home\nLANG=C\nPARAM_N=1.5\n\
         PARAM_SERVICE=web\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD={work}/cwd\n\
         TIER=gold\nTMPDIR={work}/tmp",
        plan.deadline, plan.id, plan.resource
    );
    let (_, output) = stage.run(plan);
    let mut lines: Vec<&str> = output.lines().filter(|l| !l.starts_with("OLDPWD") && !l.starts_with("_=")).collect();
    lines.sort_unstable();
    assert_eq!(lines.join("\n"), expect);
}

#[test]
fn files_folders_and_descriptors() {
    let stage = Stage::new();
    let mut plan = stage.script(
        "ls -A; cat \"$1\"; cat $DISPATCH_PARAMS; echo; echo x > $HOME/a && echo y > $TMPDIR/b && echo z > c && echo wrote\n\
         readlink /proc/self/fd/0; ls /proc/self/fd | xargs; umask\n\
         ulimit -c; cat /proc/self/oom_score_adj; read line || echo no input; ps -o sid= -o pid= $$ | awk '{print $1 == $2}'",
    );
    plan.params = serde_json::from_str(r#"{"b": 1, "a": "x"}"#).unwrap();
    let folder = stage.path().join("work").join(format!("{}.1", plan.id));
    let (outcome, output) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::Exited(0), "{output}");
    assert_eq!(output, "kind: deploy\n{\"b\":1,\"a\":\"x\"}\nwrote\n/dev/null\n0 1 2 3\n0022\n0\n500\nno input\n1\n");
    // 3 is the folder that `ls` reads.
    assert!(!folder.exists());
    assert_eq!(outcome.warning, None);
}

#[test]
fn no_privilege_is_left() {
    let stage = Stage::new();
    let (outcome, output) =
        stage.run(stage.script(
            "echo Name: $(id -un); grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Sig(Blk|Ign|Cgt))' /proc/self/status",
        ));
    let got: BTreeMap<&str, &str> =
        output.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k, v.trim())).collect();
    for zero in ["CapInh", "CapPrm", "CapEff", "CapAmb", "SigBlk", "SigIgn"] {
        assert_eq!(got[zero], "0000000000000000", "{zero}");
    }
    assert_eq!(got["NoNewPrivs"], "1");
    let user = stage.executor.user().clone();
    assert_eq!(got["Uid"], format!("{0}\t{0}\t{0}\t{0}", user.uid));
    assert_eq!(outcome.sandbox.unwrap().user, user.name);
    if geteuid().is_root() {
        assert_eq!((got["Name"], user.switch, got["CapBnd"], got["Groups"]), ("nobody", true, "0000000000000000", ""));
        let (_, output) = stage
            .run(stage.script("su -c id 2>&1; cat /etc/shadow; kill -9 $PPID; mount -t tmpfs x . ; chown 0 . ; true"));
        assert!(!output.contains("root:") && !output.contains("uid=0"), "{output}");
    } else {
        assert_eq!((user.uid, user.switch), (geteuid().as_raw(), false));
    }
}

#[test]
fn the_user_is_the_hosts_decision() {
    let dir = tempfile::tempdir().unwrap();
    let check = |user: &str, expect: &str| {
        let setup = dispatcher::launcher::Setup { user: Some(user.into()), ..setup(dir.path()) };
        match Launcher::start(setup) {
            Err(StartError::Refused(message)) => assert!(message.contains(expect), "{message}"),
            other => panic!("{user}: {other:?}"),
        }
    };
    check("no-such-user", "no such user");
    if geteuid().is_root() {
        check("root", "handlers would run as `root`");
        check("0", "handlers would run as `root`");
    } else {
        check("root", "root");
    }
    let mut odd = setup(dir.path());
    odd.lock_dir = "/proc/no-such-folder".into();
    assert!(matches!(Launcher::start(odd), Err(StartError::Refused(m)) if m.contains("lock folder")));
    let mut odd = setup(dir.path());
    odd.exe = Some("/bin/false".into());
    assert!(Launcher::start(odd).is_err());
}

#[test]
fn a_work_folder_is_removed_whatever_is_in_it() {
    let stage = Stage::new();
    let kept = stage.path().join("kept");
    std::fs::write(&kept, "kept").unwrap();
    let plan = stage.script(&format!(
        "mkdir -p a/b/c; echo x > a/b/c/f; ln -s {0} link; ln -s / root; mkfifo fifo; chmod 000 a/b/c a/b a; up=$(dirname $PWD); chmod 000 $HOME; chmod 000 .; chmod 000 $up",
        kept.display()
    ));
    let folder = stage.path().join("work").join(format!("{}.1", plan.id));
    let (outcome, output) = stage.run(plan);
    assert_eq!((outcome.ended, outcome.warning, output.as_str()), (Ended::Exited(0), None, ""));
    assert!(!folder.exists() && kept.exists());
}

#[test]
fn work_folders_are_closed_to_others() {
    let stage = Stage::new();
    let plan = stage.script("stat -c '%a %u' .. . $HOME $TMPDIR; echo done; cat");
    let (_, output) = stage.run(plan);
    let uid = stage.executor.user().uid;
    assert_eq!(output, format!("700 {uid}\n").repeat(4) + "done\n");
    assert_eq!(std::fs::metadata(stage.path().join("work")).unwrap().mode() & 0o777, 0o711);
}
