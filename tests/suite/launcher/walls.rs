//! Handlers that try to get out: what Landlock, the filter of system calls and the network hold them by on this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dispatcher::executor::Ended;
use dispatcher::launcher::{Insist, Launcher};

use super::stage::{Stage, setup};

/// Runs `script` in a shell; every line that it prints. It reads what it needs from the folder of the stage.
fn lines(stage: &Stage, script: &str) -> Vec<String> {
    let plan = stage.script(&format!("cd {} && cd - >/dev/null\n{script}", stage.path().display()));
    let (outcome, output) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::Exited(0), "{output}");
    output.lines().map(str::to_owned).collect()
}

/// A program in Python that makes system calls by number, each with six arguments of zero or as given; it prints the
/// name and the number of the error.
fn calls(stage: &Stage, wanted: &[(&str, libc::c_long, &str)]) -> Vec<String> {
    let mut script = String::from("#!/usr/bin/env python3\nimport ctypes\nc = ctypes.CDLL(None, use_errno=True)\n");
    for (name, number, arguments) in wanted {
        script.push_str(&format!(
            "ctypes.set_errno(0)\nr = c.syscall(ctypes.c_long({number}), {arguments})\nprint('{name}', ctypes.get_errno() if r == -1 else 'done')\n"
        ));
    }
    let (outcome, output) = stage.run(stage.plan(stage.file(script.as_bytes())));
    assert_eq!(outcome.ended, Ended::Exited(0), "{output}");
    output.lines().map(str::to_owned).collect()
}

const NOTHING: &str = "0, 0, 0, 0, 0, 0";

#[test]
fn what_no_handler_needs_is_refused() {
    let stage = Stage::new();
    assert!(stage.executor.launcher().walls().seccomp, "this machine cannot filter system calls");
    // Each of these gives another error, or works, where it is not filtered: to an ordinary user too.
    let user = libc::CLONE_NEWUSER;
    let wanted = [
        ("ptrace", libc::SYS_ptrace, NOTHING),
        ("process_vm_readv", libc::SYS_process_vm_readv, NOTHING),
        ("keyctl", libc::SYS_keyctl, NOTHING),
        ("add_key", libc::SYS_add_key, NOTHING),
        ("bpf", libc::SYS_bpf, "99, 0, 0, 0, 0, 0"),
        ("userfaultfd", libc::SYS_userfaultfd, "0x7fffffff, 0, 0, 0, 0, 0"),
        ("io_uring_setup", libc::SYS_io_uring_setup, NOTHING),
        ("fsopen", libc::SYS_fsopen, NOTHING),
        ("mount", libc::SYS_mount, NOTHING),
        ("setns", libc::SYS_setns, "-1, 0, 0, 0, 0, 0"),
        ("kexec_load", libc::SYS_kexec_load, NOTHING),
        ("init_module", libc::SYS_init_module, NOTHING),
        ("unshare", libc::SYS_unshare, &format!("{user}, 0, 0, 0, 0, 0")),
        ("clone", libc::SYS_clone, &format!("{}, 0, 0, 0, 0, 0", user | libc::SIGCHLD)),
    ];
    let expect: Vec<String> = wanted.iter().map(|(name, ..)| format!("{name} {}", libc::EPERM)).collect();
    assert_eq!(calls(&stage, &wanted), expect);
    let said = calls(&stage, &[("clone3", libc::SYS_clone3, NOTHING), ("getppid", libc::SYS_getppid, NOTHING)]);
    assert_eq!(said, [format!("clone3 {}", libc::ENOSYS), "getppid done".to_owned()]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_second_set_of_numbers_is_not_there() {
    let stage = Stage::new();
    let getpid = 0x4000_0000 + libc::SYS_getpid;
    // 521 is `ptrace` there.
    let said = calls(&stage, &[("getpid", getpid, NOTHING), ("ptrace", 0x4000_0000 + 521, NOTHING)]);
    assert_eq!(said, ["getpid 38", "ptrace 38"]);
}

#[test]
fn only_the_own_folder_is_written_to() {
    let stage = Stage::new();
    assert!(stage.executor.launcher().walls().landlock.is_some(), "this machine has no Landlock");
    let all = |name: &str| {
        let path = stage.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path.join("file"), "kept").unwrap();
        fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
        path
    };
    let (closed, open) = (all("closed"), all("open"));
    let script = |at: &std::path::Path| {
        format!(
            "cd {}\n(echo x >new) 2>/dev/null && echo made\n(echo x >file) 2>/dev/null && echo written\n\
             truncate -s 0 file 2>/dev/null && echo cut\nrm -f file 2>/dev/null && echo removed\n\
             mkdir folder 2>/dev/null && echo folder\nmkfifo fifo 2>/dev/null && echo fifo\n\
             ln -s / link 2>/dev/null && echo link\nmv ../closed/file ../open/moved 2>/dev/null && echo moved\ntrue",
            at.display()
        )
    };
    assert_eq!(lines(&stage, &script(&closed)), [""; 0]);
    assert_eq!(fs::read_to_string(closed.join("file")).unwrap(), "kept");
    let mut plan = stage.script(&script(&open));
    plan.write = vec![open];
    let (_, output) = stage.run(plan);
    assert_eq!(output, "made\nwritten\ncut\nremoved\nfolder\nfifo\nlink\n");
    for place in ["/tmp", "/var/tmp", "/dev/shm"] {
        let name = format!("{place}/walls-{}", fastrand::u64(..));
        assert_eq!(lines(&stage, &format!("(echo x >{name}) 2>/dev/null && echo made; true")), [""; 0], "{place}");
        assert!(!std::path::Path::new(&name).exists());
    }
}

#[test]
fn what_is_hidden_is_not_read_and_the_rest_is() {
    let stage = Stage::new();
    let work = stage.path().join("work");
    fs::create_dir_all(work.join("other")).unwrap();
    for (path, mode) in [("work", 0o777), ("work/other", 0o777)] {
        fs::set_permissions(stage.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(work.join("other/file"), "of another run\n").unwrap();
    fs::set_permissions(work.join("other/file"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(stage.path().join("seen"), "seen\n").unwrap();
    let (work, seen) = (work.display(), stage.path().join("seen"));
    let seen = seen.display();
    let script = format!(
        "cat {work}/other/file 2>/dev/null; ls {work} 2>/dev/null; ls {work}/other 2>/dev/null; ls / 2>/dev/null\n\
         (echo x >>{work}/other/file) 2>/dev/null && echo written; (: >{work}/new) 2>/dev/null && echo made\n\
         ln -s {work}/other/file a; cat a 2>/dev/null; ln {work}/other/file b 2>/dev/null && cat b\n\
         cp $0 program && ./program --twice >/dev/null 2>&1; cat {seen}; cat /etc/passwd >/dev/null && echo passwd; ls /usr >/dev/null && echo usr"
    );
    let plan = stage.script(&format!("[ \"$1\" = --twice ] && exit 0\n{script}"));
    let (_, output) = stage.run(plan);
    assert_eq!(output, "seen\npasswd\nusr\n");
}

#[test]
fn a_line_of_the_table_opens_nothing_that_is_hidden() {
    let stage = Stage::new();
    fs::create_dir_all(stage.path().join("work/other")).unwrap();
    let other = stage.path().join("work/other");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(stage.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(stage.path().join("beside")).unwrap();
    fs::set_permissions(stage.path().join("beside"), fs::Permissions::from_mode(0o777)).unwrap();
    let path = stage.path().display();
    let mut plan = stage.script(&format!(
        "(: >{path}/work/other/new) 2>/dev/null && echo other; (: >{path}/beside/new) 2>/dev/null && echo beside; true"
    ));
    plan.write = vec![stage.path().to_owned(), other];
    assert_eq!(stage.run(plan).1, "beside\n");
}

#[test]
fn others_are_not_signalled() {
    let stage = Stage::new();
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = stranger.id();
    let launcher = stage.executor.launcher().pid();
    let script = format!(
        "kill -9 {pid} 2>/dev/null && echo hit; kill -9 {launcher} 2>/dev/null && echo launcher; kill -9 $PPID 2>/dev/null && echo parent\n\
         cat /proc/{pid}/environ >/dev/null 2>&1 && echo environ; sleep 100 & kill $! && echo own; wait $! 2>/dev/null; true"
    );
    let said = lines(&stage, &script);
    let alive = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(alive);
    assert_eq!(said, ["own"]);
    // Everybody that there is, from an ordinary user too.
    assert_eq!(lines(&stage, "kill -9 -1 2>/dev/null; echo still here"), ["still here"]);
}

#[test]
fn no_network_is_no_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stage = Stage::new();
    assert!(stage.executor.launcher().walls().no_network());
    let script = format!(
        "#!/usr/bin/env python3
import socket
def tried(what, work):
    try:
        work()
        print(what)
    except OSError as e:
        pass
tried('tcp', lambda: socket.create_connection(('127.0.0.1', {port}), 5))
tried('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})))
tried('udp6', lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind(('::1', 0)))
tried('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))
tried('unix', lambda: socket.socketpair())
"
    );
    let run = |no_network| {
        let mut plan = stage.plan(stage.file(script.as_bytes()));
        plan.no_network = no_network;
        let (outcome, output) = stage.run(plan);
        assert_eq!(outcome.ended, Ended::Exited(0), "{output}");
        (outcome.sandbox.unwrap().network, output)
    };
    assert_eq!(run(true), ("none".to_owned(), "unix\n".to_owned()));
    let (network, output) = run(false);
    assert!(network == "host" && output.starts_with("tcp\nudp\n"), "{output}");
}

#[test]
fn the_status_says_what_held_it_and_off_is_off() {
    let stage = Stage::new();
    let walls = stage.executor.launcher().walls();
    let (outcome, output) = stage.run(stage.script("grep ^Seccomp: /proc/self/status"));
    let used = outcome.sandbox.unwrap();
    assert_eq!((used.landlock, used.seccomp), (walls.landlock.is_some(), walls.seccomp));
    assert_eq!(output == "Seccomp:\t2\n", walls.seccomp, "{output}");
    let dir = tempfile::tempdir().unwrap();
    let off = dispatcher::launcher::Setup { landlock: Insist::Off, seccomp: Insist::Off, ..setup(dir.path()) };
    let walls = Launcher::start(off).unwrap().walls();
    assert_eq!((walls.landlock, walls.seccomp), (None, false));
    let all = dispatcher::launcher::Setup { landlock: Insist::Require, seccomp: Insist::Require, ..setup(dir.path()) };
    assert!(Launcher::start(all).is_ok(), "both are here");
}
