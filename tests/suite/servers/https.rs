//! nginx in front of `git http-backend`, with a certificate of a private authority and basic authentication: `robot` may
//! do all, `reader` may only fetch. Below `/moved/` it sends everybody on.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Running, make, programs};
use crate::world::{World, eventually};

/// The password of both users.
pub const PASSWORD: &str = "c0rrect-horse:battery";

pub struct Https {
    dir: PathBuf,
    port: u16,
    _processes: [Running; 2],
}

impl Https {
    /// Serves the repositories of `world`; `None` where there is no nginx.
    pub fn start(world: &World) -> Option<Self> {
        let [nginx, fcgiwrap, openssl] = programs(["nginx", "fcgiwrap", "openssl"])?;
        let dir = world.path().join("nginx");
        fs::create_dir(&dir).unwrap();
        certify(&openssl, &dir);
        let password = make(&openssl, &dir, &["passwd", "-apr1", PASSWORD]);
        fs::write(dir.join("htpasswd"), format!("robot:{password}reader:{password}")).unwrap();
        let mut wrap = Command::new(fcgiwrap);
        wrap.env("HOME", &dir).args(["-c", "4", "-s"]).arg(format!("unix:{}/fcgi.sock", dir.display()));
        // What the backend says of repositories that are not there.
        wrap.stderr(fs::File::create(dir.join("backend.log")).unwrap());
        let wrap = Running::start(wrap);
        eventually("fcgiwrap listens", || dir.join("fcgi.sock").exists());
        // A port that was free a moment ago may be somebody else's now.
        let (port, server) = (0..20).find_map(|_| try_port(&nginx, &dir, world.path())).unwrap();
        Some(Self { dir, port, _processes: [server, wrap] })
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.port)
    }

    /// The authority's certificate.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A line for `git credential-store`.
    pub fn stored(&self, user: &str) -> String {
        format!("https://{user}:{}@localhost:{}\n", PASSWORD.replace(':', "%3A"), self.port)
    }

    /// What was asked of it.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("access.log")).unwrap_or_default()
    }
}

fn try_port(nginx: &Path, dir: &Path, root: &Path) -> Option<(u16, Running)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(dir.join("nginx.conf"), configuration(dir, root, port)).unwrap();
    let mut command = Command::new(nginx);
    command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).arg("-e").arg(dir.join("error.log"));
    let mut server = Running::start(command);
    let mut listens = None;
    eventually("nginx listens or ends", || {
        let ended = server.0.try_wait().unwrap().is_some();
        listens = (!ended).then(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        listens != Some(false)
    });
    listens.map(|_| (port, server))
}

fn certify(openssl: &Path, dir: &Path) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "30", "-subj", "/CN=authority of a test", "-keyout", "ca.key", "-out", "ca.pem"];
    make(openssl, dir, &[&authority[..], &key].concat());
    let server = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    make(openssl, dir, &[&server[..], &key].concat());
    fs::write(dir.join("names"), "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n").unwrap();
    let sign =
        ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"];
    make(openssl, dir, &[&sign[..], &["-extfile", "names", "-out", "server.pem"]].concat());
}

fn configuration(dir: &Path, root: &Path, port: u16) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let user = if nix::unistd::geteuid().is_root() { format!("user {user};") } else { String::new() };
    let backend = make(Path::new("git"), dir, &["--exec-path"]);
    let backend = Path::new(backend.trim()).join("git-http-backend");
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
        .collect();
    format!(
        r#"{user}
worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log {dir}/access.log;
  client_max_body_size 0;
  {temp}
  map "$remote_user $request_uri" $refused {{ default 0; "~^reader .*git-receive-pack" 1; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    server_name localhost;
    ssl_certificate {dir}/server.pem;
    ssl_certificate_key {dir}/server.key;
    location /moved/ {{ return 301 https://localhost:{port}/remote.git; }}
    location / {{
      auth_basic "git";
      auth_basic_user_file {dir}/htpasswd;
      if ($refused) {{ return 403; }}
      fastcgi_pass unix:{dir}/fcgi.sock;
      fastcgi_request_buffering off;
      fastcgi_read_timeout 600s;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_PROJECT_ROOT {root};
      fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param PATH_INFO $uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
      fastcgi_param REMOTE_USER $remote_user;
      fastcgi_param REMOTE_ADDR $remote_addr;
      fastcgi_param SERVER_PROTOCOL $server_protocol;
    }}
  }}
}}
"#,
        dir = dir.display(),
        backend = backend.display(),
        root = root.display(),
    )
}
