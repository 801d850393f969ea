//! sshd, one process for each connection, behind a socket of the test's own: no port is guessed, and nothing is left.
//! Three keys: one that may do all, one that may only read, one that nobody knows.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{Running, make, programs};
use crate::world::World;

pub struct Ssh {
    dir: PathBuf,
    port: u16,
    ended: Arc<AtomicBool>,
    door: Option<JoinHandle<()>>,
    connections: Arc<Mutex<Vec<Running>>>,
}

impl Ssh {
    /// Serves the repositories of `world`; `None` where there is no sshd.
    pub fn start(world: &World) -> Option<Self> {
        let [sshd, keygen, _, shell] = programs(["sshd", "ssh-keygen", "ssh", "git-shell"])?;
        let dir = world.path().join("sshd");
        fs::create_dir(&dir).unwrap();
        for key in ["host", "other-host", "good", "reader", "stranger"] {
            make(&keygen, &dir, &["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", key]);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        write_files(&dir, port, &shell);
        if nix::unistd::geteuid().is_root() {
            // sshd insists on this one.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let ended = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (over, kept, at) = (Arc::clone(&ended), Arc::clone(&connections), dir.clone());
        let door = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let both: OwnedFd = stream.unwrap().into();
                let mut command = Command::new(&sshd);
                let log = File::options().create(true).append(true).open(at.join("log")).unwrap();
                command.args(["-i", "-e", "-f"]).arg(at.join("sshd_config")).stderr(log);
                command.stdout(both.try_clone().unwrap());
                kept.lock().unwrap().push(Running::serve(command, both));
            }
        });
        Some(Self { dir, port, ended, door: Some(door), connections })
    }

    /// Where a repository of the world is.
    pub fn url(&self, repository: &Path) -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        format!("ssh://{user}@127.0.0.1:{}{}", self.port, repository.display())
    }

    /// How this host is called in `known_hosts`.
    pub fn host(&self) -> String {
        format!("[127.0.0.1]:{}", self.port)
    }

    /// A file that knows the host by its key, or by another one, or not at all.
    pub fn known_hosts(&self, key: Option<&str>) -> PathBuf {
        let file = self.dir.join(format!("known_hosts-{}", key.unwrap_or("none")));
        let line = key.map_or_else(String::new, |key| {
            let public = fs::read_to_string(self.dir.join(format!("{key}.pub"))).unwrap();
            format!("{} {public}", self.host())
        });
        fs::write(&file, line).unwrap();
        file
    }

    /// For `GIT_SSH_COMMAND`: ssh with a configuration of its own, that key, and those hosts.
    pub fn command(&self, key: &str, known_hosts: &Path) -> String {
        let config = self.dir.join(format!("config-{key}"));
        let text = format!("IdentityFile {}\nIdentitiesOnly yes\nIdentityAgent none\n", self.dir.join(key).display());
        fs::write(&config, text).unwrap();
        format!(
            "ssh -F {} -o UserKnownHostsFile={} -o GlobalKnownHostsFile=none",
            config.display(),
            known_hosts.display()
        )
    }
}

impl Running {
    fn serve(mut command: Command, stdin: OwnedFd) -> Self {
        use std::os::unix::process::CommandExt as _;
        Self(command.stdin(stdin).process_group(0).spawn().unwrap())
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = std::net::TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.door.take().map(JoinHandle::join);
        self.connections.lock().unwrap().clear();
    }
}

fn write_files(dir: &Path, port: u16, shell: &Path) {
    let script = |name: &str, text: String| {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o755)).unwrap();
    };
    let all = format!("exec {} -c \"$SSH_ORIGINAL_COMMAND\"\n", shell.display());
    script("all", format!("#!/bin/sh\n{all}"));
    let no = "echo 'ERROR: The key you are authenticating with has been marked as read only.' >&2; exit 1";
    script("read", format!("#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in *receive-pack*) {no};; esac\n{all}"));
    let line = |script: &str, key: &str| {
        let public = fs::read_to_string(dir.join(format!("{key}.pub"))).unwrap();
        format!("command=\"{}\",restrict {public}", dir.join(script).display())
    };
    fs::write(dir.join("authorized_keys"), line("all", "good") + &line("read", "reader")).unwrap();
    let config = format!(
        "Port {port}\nHostKey {at}/host\nPidFile none\nAuthorizedKeysFile {at}/authorized_keys\nStrictModes no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPermitRootLogin prohibit-password\n\
         PrintMotd no\nUseDNS no\n",
        at = dir.display()
    );
    fs::write(dir.join("sshd_config"), config).unwrap();
}
