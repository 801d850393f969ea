"""The sample handlers alone, each started as the dispatcher starts it: a closed environment, an empty work folder, the
request's copy as argv[1], and an ordinary user (`nobody` where the tests run as root).

    python3 -m unittest discover -s tests/handlers
"""

import contextlib
import functools
import gzip
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
NOBODY = 65534
HOSTILE = ["two words", "$(touch pwned)", "a\nb", "-rf", "quote'\"s", "`id`", "*", "ü\u202e"]


class Run:
    """How a handler ended."""

    def __init__(self, rc, output, result, progress):
        self.rc, self.output, self.result, self.progress = rc, output, result, progress


class Case(unittest.TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="handlers-"))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.base.chmod(0o755)
        # Staged, as the dispatcher does it: the checkout itself need not be reachable for the handlers' user.
        self.handlers = self.base / "staged"
        shutil.copytree(ROOT / "handlers", self.handlers)
        self.data = self.folder("data")
        self.works = 0

    def folder(self, name):
        """A new folder that the handlers' user may write to."""
        path = self.base / name
        path.mkdir()
        self.give(path)
        return path

    def give(self, path):
        if AS_ROOT:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def give_all(self, path):
        for folder, folders, files in os.walk(os.fsencode(path)):
            self.give(folder)
            for name in folders + files:
                self.give(os.path.join(folder, name))

    def start(self, handler, params, **extra):
        self.works += 1
        work = self.folder(f"work-{self.works}")
        (work / "tmp").mkdir()
        self.give(work / "tmp")
        aside = self.folder(f"aside-{self.works}")
        (aside / "params.json").write_text(json.dumps(params))
        (aside / "request.yml").write_text("kind: test\n")
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(work),
            "TMPDIR": str(work / "tmp"),
            "DISPATCH_ID": "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f",
            "DISPATCH_KIND": "test",
            "DISPATCH_ATTEMPT": "1",
            "DISPATCH_REQUEST": str(aside / "request.yml"),
            "DISPATCH_PARAMS": str(aside / "params.json"),
            "DISPATCH_RESULT": str(aside / "result.json"),
            "DISPATCH_PROGRESS": str(aside / "progress"),
            **{
                f"PARAM_{k.upper()}": v if isinstance(v, str) else json.dumps(v)
                for k, v in params.items()
                if isinstance(v, (str, int, float)) and "\0" not in str(v)
            },
            **extra,
        }
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if AS_ROOT else {}
        process = subprocess.Popen(
            [str(self.handlers / handler), env["DISPATCH_REQUEST"]],
            cwd=work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **user,
        )
        self.addCleanup(self.kill, process)
        return process, work, aside

    @staticmethod
    def kill(process, number=signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        process.wait()
        if process.stdout and not process.stdout.closed:
            process.stdout.close()

    def run_handler(self, handler, params, rc=0, **extra):
        process, work, aside = self.start(handler, params, **extra)
        output = process.communicate(timeout=60)[0].decode()
        self.assertEqual(process.returncode, rc, output)
        self.assertNotIn("Traceback", output)
        self.assertFalse((work / "pwned").exists(), "a value was executed")
        result, progress = aside / "result.json", aside / "progress"
        return Run(
            process.returncode,
            output,
            json.loads(result.read_text()) if result.exists() else None,
            progress.read_text().splitlines() if progress.exists() else [],
        )


class Hello(Case):
    def test_it_greets(self):
        self.assertEqual(self.run_handler("hello.sh", {}).output, "Hello, world!\n")
        for value in HOSTILE:
            self.assertEqual(self.run_handler("hello.sh", {"name": value}).output, f"Hello, {value}!\n")


class Backup(Case):
    def setUp(self):
        super().setUp()
        self.source, self.target = self.folder("source"), self.folder("target")
        (self.source / "etc").mkdir()
        (self.source / "etc" / "app.conf").write_text("port = 80\n")
        (self.source / "big").write_bytes(bytes(range(256)) * 10_000)
        (self.source / "link").symlink_to("etc/app.conf")
        self.give_all(self.source)

    def backup(self, rc=0, **params):
        return self.run_handler(
            "backup.py", {"name": "app", "source": str(self.source), "target": str(self.target), **params}, rc
        )

    def files(self):
        return sorted(os.listdir(self.target))

    def test_an_archive_is_whole_and_its_checksum_holds(self):
        run = self.backup()
        name = run.result["archive"]
        self.assertEqual(self.files(), [name, name + ".sha256"])
        self.assertEqual(run.result["files"], 2)
        self.assertEqual(run.result["sha256"], hashlib.sha256((self.target / name).read_bytes()).hexdigest())
        subprocess.run(["sha256sum", "--check", "--quiet", name + ".sha256"], cwd=self.target, check=True)
        with tarfile.open(self.target / name) as tar:
            self.assertEqual(tar.getnames(), ["big", "etc", "etc/app.conf", "link"])
            self.assertEqual(tar.extractfile("etc/app.conf").read(), b"port = 80\n")
        self.assertEqual(run.progress[0], "1/5 scan")
        self.assertEqual(run.progress[-1], "5/5 rotate")

    def test_the_same_source_gives_the_same_bytes(self):
        first = self.backup().result["sha256"]
        shutil.rmtree(self.target)
        self.folder("target")
        self.assertEqual(self.backup().result["sha256"], first)

    def test_the_same_content_is_not_archived_again(self):
        first = self.backup().result
        os.utime(self.source / "big", (1, 1))
        again = self.backup().result
        self.assertEqual((first["created"], again["created"]), (True, False))
        self.assertEqual(again["archive"], first["archive"])
        self.assertEqual(len(self.files()), 2)

    def test_permission_bits_are_content(self):
        self.backup()
        (self.source / "big").chmod(0o600)
        self.assertTrue(self.backup().result["created"])

    def test_a_damaged_archive_is_replaced(self):
        name = self.backup().result["archive"]
        with open(self.target / name, "r+b") as archive:
            archive.seek(100)
            archive.write(b"\0\0\0\0")
        run = self.backup()
        self.assertIn("is damaged", run.output)
        self.assertTrue(run.result["created"])
        self.assertNotEqual(run.result["archive"], name)

    def test_only_the_newest_are_kept_and_other_names_are_left_alone(self):
        (self.target / "app-2-000001-0123456789ab.tar.gz").write_bytes(b"not ours")
        (self.target / "notes.txt").write_text("not ours")
        for number in range(5):
            (self.source / "etc" / "app.conf").write_text(f"port = {number}\n")
            run = self.backup(keep=2)
        ours = [f for f in self.files() if f.startswith("app-0")]
        self.assertEqual([f[:10] for f in ours], ["app-000004", "app-000004", "app-000005", "app-000005"])
        self.assertEqual([f[:10] for f in run.result["removed"]], ["app-000003"])
        self.assertEqual(len(self.files()), 6)

    def test_killed_anywhere_and_asked_again(self):
        # Long enough to be caught at work: bytes that do not compress.
        (self.source / "noise").write_bytes(os.urandom(24 << 20))
        self.give_all(self.source)
        for moment in ("2/5 archive", "3/5 verify", "4/5 publish"):
            with self.subTest(moment):
                (self.source / "etc" / "app.conf").write_text(moment)
                before = [f for f in self.files() if f.endswith(".tar.gz")]
                process, _, aside = self.start(
                    "backup.py", {"name": "app", "source": str(self.source), "target": str(self.target)}
                )
                while process.poll() is None:
                    try:
                        if moment in (aside / "progress").read_text():
                            break
                    except FileNotFoundError:
                        pass
                self.kill(process)
                for name in self.files():
                    if name.endswith(".tar.gz"):
                        self.check_whole(name)
                self.backup()
                after = self.files()
                self.assertEqual([f for f in after if "partial" in f], [])
                self.assertEqual(len(after) % 2, 0, after)
                self.assertEqual(len([f for f in after if f.endswith(".tar.gz")]), len(before) + 1)

    def check_whole(self, name):
        recorded = (self.target / (name + ".sha256")).read_text().split()
        self.assertEqual(recorded, [hashlib.sha256((self.target / name).read_bytes()).hexdigest(), name])

    def test_leftovers_of_a_power_cut_are_swept(self):
        (self.target / ".app.partial").write_bytes(b"half")
        (self.target / "app-000009-0123456789ab.tar.gz.sha256").write_text("orphan")
        (self.target / "app-000009-0123456789ab.tar.gz.sha256.partial").write_text("orphan")
        self.give_all(self.target)
        name = self.backup().result["archive"]
        self.assertEqual(self.files(), [name, name + ".sha256"])

    def test_hostile_names_are_archived_and_cannot_forge_a_line(self):
        for name in HOSTILE:
            (self.source / name).write_text(name)
        (pathlib.Path(os.fsdecode(os.fsencode(self.source) + b"/bad-\xff"))).write_text("not utf-8")
        os.mkfifo(self.source / "pipe\nbackup: all is well")
        self.give_all(self.source)
        run = self.backup()
        self.assertEqual(run.result["files"], 2 + len(HOSTILE) + 1)
        self.assertIn("left out, not a file", run.output)
        self.assertNotIn("\nbackup: all is well", run.output)
        with tarfile.open(self.target / run.result["archive"]) as tar:
            self.assertEqual(tar.extractfile("$(touch pwned)").read(), b"$(touch pwned)")
        self.assertFalse(self.backup().result["created"])

    def test_hostile_folders(self):
        for name in HOSTILE:
            with self.subTest(name):
                source, target = self.folder(name), self.folder(name + " target")
                (source / "f").write_text("x")
                self.give_all(source)
                self.assertEqual(self.backup(source=str(source), target=str(target)).result["files"], 1)

    def test_exclude(self):
        (self.source / "etc" / "x.tmp").write_text("")
        self.give_all(self.source)
        run = self.backup(exclude=["*.tmp", "etc/app*", "b[i]g"])
        with tarfile.open(self.target / run.result["archive"]) as tar:
            self.assertEqual(tar.getnames(), ["etc", "link"])

    def test_an_unreadable_file_is_an_error_and_named(self):
        (self.source / "secret").write_text("x")
        (self.source / "secret").chmod(0)
        self.give_all(self.source)
        run = self.backup(rc=1)
        self.assertIn('secret": Permission denied', run.output)
        self.assertEqual(self.files(), [])

    def test_unusable_params(self):
        for bad in (
            {"name": "../x"},
            {"name": "-rf"},
            {"keep": 0},
            {"keep": "many"},
            {"source": str(self.base / "none")},
            {"target": str(self.base / "none")},
            {"target": str(self.source / "etc")},
            {"source": "a\0b"},
        ):
            with self.subTest(str(bad)):
                self.backup(rc=65, **bad)

    def test_an_empty_folder(self):
        empty = self.folder("empty")
        self.assertEqual(self.backup(source=str(empty)).result["files"], 0)
        self.assertFalse(self.backup(source=str(empty)).result["created"])

    def test_a_truncated_archive_is_not_taken_for_whole(self):
        name = self.backup().result["archive"]
        whole = (self.target / name).read_bytes()
        (self.target / name).write_bytes(whole[: len(whole) // 2])
        self.assertTrue(self.backup().result["created"])
        newest = self.target / self.files()[-2]
        self.assertTrue(gzip.decompress(newest.read_bytes()))


class Deploy(Case):
    def setUp(self):
        super().setUp()
        self.root = self.folder("site")

    def release(self, ref, health="exit 0"):
        path = self.folder(f"built-{ref}")
        (path / "VERSION").write_text(ref)
        (path / "bin").mkdir()
        (path / "bin" / "health").write_text(f"#!/bin/sh\n{health}\n")
        (path / "bin" / "health").chmod(0o755)
        self.give_all(path)
        return path

    def params(self, ref, **more):
        built = self.base / f"built-{ref}"
        common = {"service": "web", "env": "test", "root": str(self.root), "source": str(built), "ref": ref}
        return {**common, "health_tries": 1, **more}

    def deploy(self, ref, rc=0, env=None, **more):
        return self.run_handler("deploy.sh", self.params(ref, **more), rc, **(env or {}))

    def live(self):
        current = self.root / "current"
        return (current / "VERSION").read_text() if current.is_symlink() else None

    def tidy(self, releases):
        """Nothing half made is left."""
        self.assertEqual(sorted(os.listdir(self.root / "releases")), releases)
        self.assertEqual([n for n in os.listdir(self.root) if n.startswith(".")], [])

    def test_first_then_second_then_the_same_again(self):
        for ref in ("v1", "v2"):
            self.release(ref)
        run = self.deploy("v1", health_command="bin/health", health_file="VERSION")
        self.assertEqual((self.live(), run.result["previous"], run.result["changed"]), ("v1", None, True))
        run = self.deploy("v2", health_command="bin/health")
        self.assertEqual((self.live(), run.result["previous"], run.result["live"]), ("v2", "v1", "v2"))
        before = os.readlink(self.root / "current"), os.lstat(self.root / "current").st_ino
        run = self.deploy("v2", health_command="bin/health")
        self.assertFalse(run.result["changed"])
        self.assertEqual((os.readlink(self.root / "current"), os.lstat(self.root / "current").st_ino), before)
        self.tidy(["v1", "v2"])
        self.assertEqual(run.progress, ["1/4 unpack", "2/4 flip", "3/4 check", "4/4 tidy"])

    def test_an_ill_release_is_rolled_back_and_may_come_again_mended(self):
        self.release("v1")
        built = self.release("v2", "echo no good; exit 1")
        self.deploy("v1")
        run = self.deploy("v2", rc=1, health_command="bin/health")
        self.assertEqual((self.live(), run.result["rolled_back"], run.result["live"]), ("v1", True, "v1"))
        self.assertIn("rolled back to v1", run.output)
        self.tidy(["v1"])
        (built / "bin" / "health").write_text("#!/bin/sh\nexit 0\n")
        self.deploy("v2", health_command="bin/health")
        self.assertEqual(self.live(), "v2")

    def test_an_ill_first_release_is_taken_off(self):
        self.release("v1", "exit 1")
        run = self.deploy("v1", rc=1, health_command="bin/health")
        self.assertEqual((self.live(), run.result["live"]), (None, None))
        self.tidy([])

    def test_what_was_healthy_stays_when_it_falls_ill_later(self):
        built = self.release("v1", "test ! -e ../../ill")
        self.deploy("v1", health_command="bin/health")
        (self.root / "ill").touch()
        self.assertIn("so it stays", self.deploy("v1", rc=1, health_command="bin/health").output)
        self.assertEqual(self.live(), "v1")
        self.assertTrue(built.exists())

    def test_a_ref_never_changes_its_bytes(self):
        built = self.release("v1")
        self.deploy("v1")
        (built / "VERSION").write_text("v1 again")
        self.assertIn("other content", self.deploy("v1", rc=65).output)
        self.assertEqual(self.live(), "v1")
        self.tidy(["v1"])

    def test_an_archive_equals_its_folder(self):
        built = self.release("v1")
        packed = self.data / "v1.tar.gz"
        subprocess.run(["tar", "-C", built, "-czf", packed, "."], check=True)
        sha256 = self.deploy("v1").result["sha256"]
        run = self.deploy("v1", source=str(packed))
        self.assertEqual((run.result["sha256"], run.result["changed"]), (sha256, False))
        packed.write_bytes(packed.read_bytes()[:40])
        self.deploy("v1", rc=65, source=str(packed))
        self.assertEqual(self.live(), "v1")

    def test_a_dry_run_changes_nothing(self):
        for ref in ("v1", "v2"):
            self.release(ref)
        self.deploy("v1")
        before = sorted(str(p) for p in self.root.rglob("*"))
        run = self.deploy("v2", env={"DISPATCH_DRY_RUN": "1"})
        self.assertEqual(sorted(str(p) for p in self.root.rglob("*")), before)
        self.assertEqual((run.result["dry_run"], run.result["live"]), (True, "v1"))
        self.assertIn("would release v2", run.output)

    def test_old_releases_go_but_never_the_one_to_go_back_to(self):
        for number in range(1, 6):
            self.release(f"v{number}")
            self.deploy(f"v{number}", keep=3)
        self.tidy(["v3", "v4", "v5"])
        self.deploy("v3", keep=2)
        self.tidy(["v3", "v5"])
        self.deploy("v5", keep=1)
        self.tidy(["v5"])

    def on_trial(self, ref):
        """Starts a deployment whose health check hangs; returns when the release is live on trial."""
        self.release(ref, "echo on trial; exec sleep 60")
        process, *_ = self.start("deploy.sh", self.params(ref, health_command="bin/health"))
        for line in process.stdout:
            if line == b"on trial\n":
                self.assertEqual(self.live(), ref)
                return process
        return self.fail("the health check never ran")

    def test_killed_on_trial_then_asked_again(self):
        self.release("v1")
        self.deploy("v1")
        self.kill(self.on_trial("v2"))
        self.assertEqual(self.live(), "v2")
        run = self.deploy("v2", rc=1, health_file="none")
        self.assertEqual((self.live(), run.result["rolled_back"]), ("v1", True))
        run = self.deploy("v2", health_file="VERSION")
        self.assertEqual((self.live(), run.result["previous"]), ("v2", "v1"))
        self.tidy(["v1", "v2"])

    def test_killed_on_trial_then_another_release_that_is_ill_too(self):
        self.release("v1")
        self.deploy("v1")
        self.kill(self.on_trial("v2"))
        self.release("v3", "exit 1")
        self.deploy("v3", rc=1, health_command="bin/health")
        self.assertEqual(self.live(), "v1", "back to what was healthy, not to what was on trial")

    def test_stopped_on_trial_goes_back(self):
        self.release("v1")
        self.deploy("v1")
        process = self.on_trial("v2")
        os.killpg(process.pid, signal.SIGTERM)
        output = process.communicate(timeout=30)[0].decode()
        self.assertEqual(process.returncode, 143, output)
        self.assertEqual(self.live(), "v1")
        self.tidy(["v1"])

    def test_killed_at_any_time_there_is_a_whole_release_or_none(self):
        for ref in ("v1", "v2"):
            built = self.release(ref)
            for number in range(300):
                (built / f"file-{number}").write_text(ref)
            self.give_all(built)
        self.deploy("v1")
        whole = len(os.listdir(self.base / "built-v1"))
        for delay in range(0, 60, 4):
            process, *_ = self.start("deploy.sh", self.params("v2", health_file="VERSION"))
            time.sleep(delay / 1000)
            self.kill(process)
            self.assertIn(self.live(), ("v1", "v2"))
            for ref in ("v1", "v2"):
                release = self.root / "releases" / ref
                self.assertIn(len(os.listdir(release)) if release.exists() else whole, (whole,))
            self.deploy("v1", health_file="VERSION")
            self.assertEqual(self.live(), "v1")
            self.assertEqual([n for n in os.listdir(self.root) if n.startswith(".")], [])
            shutil.rmtree(self.root / "releases" / "v2", ignore_errors=True)

    def test_there_is_no_moment_without_a_release(self):
        for ref in ("v1", "v2"):
            self.release(ref)
        self.deploy("v1")
        done, missing = threading.Event(), []

        def look():
            while not done.is_set():
                if not (self.root / "current" / "VERSION").exists():
                    missing.append(time.monotonic())

        reader = threading.Thread(target=look)
        reader.start()
        try:
            for ref in ("v2", "v1", "v2", "v1"):
                self.deploy(ref)
            self.deploy("v2", rc=1, health_file="none")
        finally:
            done.set()
            reader.join()
        self.assertEqual(missing, [])

    def test_hostile_folders(self):
        for number, name in enumerate(HOSTILE):
            with self.subTest(name):
                self.root = self.folder(f"{name} {number}")
                ref = f"h{number}"
                built = self.release(ref)
                moved = self.base / f"{name} built"
                built.rename(moved)
                self.deploy(ref, source=str(moved), health_command="bin/health")
                self.assertEqual(self.live(), ref)

    def test_unusable_params(self):
        self.release("v1")
        good = self.params("v1")
        for bad in (
            {"ref": "../../etc"},
            {"ref": "-rf"},
            {"ref": "a b"},
            {"ref": "v1\nv2"},
            {"ref": ""},
            {"root": "relative"},
            {"root": str(self.base / "none")},
            {"root": "/usr"},
            {"source": str(self.base / "none")},
            {"source": "-x"},
            {"keep": 0},
            {"keep": "$(touch pwned)"},
            {"health_tries": "-1"},
            {"health_command": "../../bin/sh"},
            {"health_command": "/bin/true"},
            {"health_file": "a/../../b"},
            {"health_url": "http://localhost/$(touch pwned) x"},
            {"health_url": "file:///etc/passwd"},
        ):
            with self.subTest(str(bad)):
                self.run_handler("deploy.sh", {**good, **bad}, 65)
        self.assertEqual(os.listdir(self.root), [])

    def test_health_by_url(self):
        for ref in ("v1", "v2"):
            self.release(ref)
        with serving(self) as port:
            self.deploy("v1", health_url=f"http://127.0.0.1:{port}/ok")
            self.deploy("v2", rc=1, health_url=f"http://127.0.0.1:{port}/ill?a=$(touch%20pwned)")
        self.assertEqual(self.live(), "v1")
        self.deploy("v2", rc=1, health_url=f"http://127.0.0.1:{closed_port()}/ok")
        self.assertEqual(self.live(), "v1")


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.path == "/ok"
        body = b"all is well" if ok else b"ill"
        self.send_response(200 if ok else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who only wants the status does not wait for the body
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class serving:
    """A real server on a free port."""

    def __init__(self, _case):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.server.server_address[1]

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Healthcheck(Case):
    def check(self, rc, *checks, **more):
        return self.run_handler("healthcheck.py", {"checks": list(checks), "tries": 1, "wait": "10ms", **more}, rc)

    def test_everything_as_it_should_be(self):
        fresh = self.data / "fresh"
        fresh.touch()
        with serving(self) as port:
            run = self.check(
                0,
                {"tcp": f"127.0.0.1:{port}"},
                {"http": f"http://127.0.0.1:{port}/ok", "contains": "well"},
                {"http": f"http://127.0.0.1:{port}/no", "status": 503},
                {"file": str(fresh), "max_age": "1h"},
                {"file": "/etc/passwd"},
                {"disk": "/", "min_free": "1"},
            )
        self.assertEqual(run.result, {"healthy": True, "checks": 6, "rounds": 1, "not_yet": []})
        self.assertEqual(run.progress, ["1/1 check"])

    def test_each_check_can_be_not_yet(self):
        old = self.data / "old"
        old.touch()
        os.utime(old, (1, 1))
        with serving(self) as port:
            for check in (
                {"tcp": f"127.0.0.1:{closed_port()}"},
                {"tcp": "no-such-host.invalid:80"},
                {"http": f"http://127.0.0.1:{port}/no"},
                {"http": f"http://127.0.0.1:{port}/ok", "contains": "ill"},
                {"http": f"http://127.0.0.1:{closed_port()}/"},
                {"http": f"https://127.0.0.1:{port}/"},
                {"file": str(old), "max_age": "1d"},
                {"file": "-rf"},
                {"disk": "/", "min_free": "999999999G"},
                {"disk": str(self.data / "none")},
            ):
                with self.subTest(str(check)):
                    run = self.check(75, check, {"file": "/etc/passwd"})
                    self.assertEqual((run.result["healthy"], len(run.result["not_yet"])), (False, 1))

    def test_it_asks_again_and_stops_when_it_holds(self):
        late = self.data / "late"
        process, _, aside = self.start(
            "healthcheck.py", {"checks": [{"file": str(late)}], "tries": 1000, "wait": "5ms"}
        )
        self.assertTrue(process.stdout.readline().startswith(b"not yet"))
        late.touch()
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 0)
        self.assertGreater(json.loads((aside / "result.json").read_text())["rounds"], 1)
        run = self.check(75, {"file": "none"}, tries=3)
        self.assertEqual((run.result["rounds"], len(run.progress)), (3, 3))

    def test_unusable_params(self):
        for bad in (
            {},
            {"tcp": "nohost"},
            {"tcp": "h:99999"},
            {"http": "file:///etc/passwd"},
            {"http": "http://h:port/"},
            {"file": "/", "max_age": "soon"},
            {"disk": "/", "min_free": "much"},
            {"tcp": "h:1", "file": "/"},
        ):
            with self.subTest(str(bad)):
                self.check(65, bad)
        self.run_handler("healthcheck.py", {}, 65)
        self.run_handler("healthcheck.py", {"checks": [{"file": "/"}], "tries": 0}, 65)

    def test_hostile_values_cannot_forge_a_line(self):
        for value in HOSTILE:
            run = self.check(75, {"file": value + "\nok       file \"/x\" exists"})
            self.assertEqual(len(run.output.splitlines()), 1, run.output)


class Lint(unittest.TestCase):
    """What reviewers would otherwise say."""

    def test_every_handler_is_executable_and_clean(self):
        sources = [*ROOT.glob("handlers/*"), *ROOT.glob("src/cli/demo_files/handlers/*")]
        scripts = [p for p in sources if p.suffix == ".sh"]
        for path in (p for p in sources if p.suffix in (".sh", ".py")):
            self.assertTrue(os.access(path, os.X_OK), path)
            if path.suffix == ".py":
                compile(path.read_text(), str(path), "exec")
        self.assertTrue(scripts)
        for path in scripts:
            shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
            subprocess.run([shell, "-n", path], check=True)

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_shellcheck(self):
        scripts = [*ROOT.glob("handlers/*.sh"), *ROOT.glob("src/cli/demo_files/handlers/*.sh")]
        scripts += ROOT.glob("tests/golden/*/files/handlers/*.sh")
        run = functools.partial(subprocess.run, capture_output=True, text=True, check=False)
        done = run(["shellcheck", *map(str, scripts)])
        self.assertEqual(done.stdout, "")


if __name__ == "__main__":
    unittest.main()
