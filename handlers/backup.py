#!/usr/bin/python3 -I
"""Archive a folder to TARGET/NAME-<number>-<content>.tar.gz, with its SHA-256 beside it, and keep the newest N.

Safe to run again at any time: an archive appears under its name only when it is complete and has been read back,
what an interrupted run left is swept, and where the content is that of the newest archive nothing is written. Content
means paths, kinds, permission bits and bytes; a newer time stamp alone is no new content.

Exit 0: there is a verified archive of what is in the source now. 65: the params cannot be used. 75: the source changed
while it was read, try again. 1: anything else, said on stderr.

It runs without root: what its user cannot read is an error, never left out silently. Sockets, FIFOs and devices are
left out and named.
"""

import fnmatch
import gzip
import hashlib
import json
import os
import re
import stat
import sys
import tarfile

CHUNK = 1 << 20
STEPS = ("scan", "archive", "verify", "publish", "rotate")


class Failure(Exception):
    """Ends the run with an exit code and a message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def shown(path):
    """A path for the log: quoted, and a newline in it cannot start a line of its own."""
    return json.dumps(os.fsdecode(path))


def step(name):
    """Says on the dashboard how far it is."""
    path = os.environ.get("DISPATCH_PROGRESS")
    if path:
        with open(path, "a", encoding="utf-8") as progress:
            progress.write(f"{STEPS.index(name) + 1}/{len(STEPS)} {name}\n")


def read_params():
    with open(os.environ["DISPATCH_PARAMS"], encoding="utf-8") as file:
        params = json.load(file)
    # The schema has said most of this; a handler that writes files does not lean on it alone.
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", str(params.get("name", ""))):
        raise Failure(65, "`name` must be 1 to 40 of a-z, 0-9 and -")
    keep = params.setdefault("keep", 7)
    if not isinstance(keep, (int, float)) or int(keep) != keep or keep < 1:
        raise Failure(65, "`keep` must be a whole number, at least 1")
    params["keep"] = int(keep)
    for key in ("source", "target"):
        if not isinstance(params.get(key), str) or "\0" in params[key]:
            raise Failure(65, f"`{key}` must be a path")
        if not os.path.isdir(params[key]):
            raise Failure(65, f"`{key}`: no such folder, or no permission: {shown(params[key])}")
        params[key] = os.path.realpath(params[key])
    if os.path.commonpath([params["source"], params["target"]]) == params["source"]:
        raise Failure(65, "`target` must lie outside `source`, or every backup would contain the one before")
    return params


def excluded(relative, patterns):
    return any(fnmatch.fnmatchcase(relative if "/" in p else os.path.basename(relative), p) for p in patterns)


def scan(source, patterns):
    """All members below `source` in one fixed order: (relative path, lstat)."""
    members, troubles = [], []

    def walk(folder, prefix):
        try:
            names = sorted(os.listdir(folder), key=os.fsencode)
        except OSError as error:
            troubles.append(f"{shown(folder)}: {error.strerror}")
            return
        for name in names:
            relative, path = prefix + name, os.path.join(folder, name)
            if excluded(relative, patterns):
                continue
            try:
                info = os.lstat(path)
            except FileNotFoundError:
                raise Failure(75, f"{shown(path)} went away while it was read") from None
            mode = info.st_mode
            if stat.S_ISREG(mode) and not os.access(path, os.R_OK):
                troubles.append(f"{shown(path)}: Permission denied")
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                members.append((relative, info))
            elif stat.S_ISDIR(mode):
                members.append((relative, info))
                walk(path, relative + "/")
            else:
                print(f"left out, not a file: {shown(path)}", flush=True)

    walk(source, "")
    if troubles:
        more = f" (and {len(troubles) - 20} more)" if len(troubles) > 20 else ""
        raise Failure(1, "cannot be read:\n  " + "\n  ".join(troubles[:20]) + more)
    return members


class Content:
    """A digest of paths, kinds, permission bits and bytes, in the order in which they come."""

    def __init__(self):
        self.digest = hashlib.sha256()

    def member(self, relative, kind, mode, size):
        name = os.fsencode(relative)
        self.digest.update(b"%s %o %d %d " % (kind, mode & 0o7777, size, len(name)) + name)

    def data(self, stream, size, copy_to=None):
        """Takes exactly `size` bytes; fewer or more mean that the file is being written."""
        left = size
        while left:
            chunk = stream.read(min(CHUNK, left))
            if not chunk:
                raise Failure(75, "a file became shorter while it was read")
            self.digest.update(chunk)
            if copy_to is not None:
                copy_to.write(chunk)
            left -= len(chunk)
        if stream.read(1):
            raise Failure(75, "a file grew while it was read")

    def text(self, text):
        self.digest.update(os.fsencode(text))


def content_of_source(source, members):
    content = Content()
    for relative, info in members:
        path = os.path.join(source, relative)
        if stat.S_ISREG(info.st_mode):
            content.member(relative, b"f", info.st_mode, info.st_size)
            with open(path, "rb") as stream:
                content.data(stream, info.st_size)
        elif stat.S_ISLNK(info.st_mode):
            link = os.readlink(path)
            content.member(relative, b"l", 0, len(os.fsencode(link)))
            content.text(link)
        else:
            content.member(relative, b"d", info.st_mode, 0)
    return content.digest.hexdigest()


def content_of_archive(path):
    content = Content()
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            if member.isreg():
                content.member(member.name, b"f", member.mode, member.size)
                content.data(tar.extractfile(member), member.size)
            elif member.issym():
                content.member(member.name, b"l", 0, len(os.fsencode(member.linkname)))
                content.text(member.linkname)
            else:
                content.member(member.name, b"d", member.mode, 0)
    return content.digest.hexdigest()


class Exactly:
    """A file for `tarfile` that must hold exactly the size that was promised in its header."""

    def __init__(self, stream, size):
        self.stream, self.left = stream, size

    def read(self, count):
        chunk = self.stream.read(min(count, self.left))
        if not chunk and self.left:
            raise Failure(75, "a file became shorter while it was archived")
        self.left -= len(chunk)
        return chunk


def write_archive(source, members, path):
    """The same members give the same bytes: fixed order, no user names, no clock in the gzip header."""
    with open(path, "wb") as raw:
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for relative, info in members:
                entry = tarfile.TarInfo(relative)
                entry.mode, entry.mtime = stat.S_IMODE(info.st_mode), int(info.st_mtime)
                entry.uid, entry.gid = info.st_uid, info.st_gid
                full = os.path.join(source, relative)
                if stat.S_ISREG(info.st_mode):
                    entry.size = info.st_size
                    with open(full, "rb") as stream:
                        tar.addfile(entry, Exactly(stream, info.st_size))
                elif stat.S_ISLNK(info.st_mode):
                    entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(full)
                    tar.addfile(entry)
                else:
                    entry.type = tarfile.DIRTYPE
                    tar.addfile(entry)
        raw.flush()
        os.fsync(raw.fileno())


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def archives_in(target, name):
    """Complete archives of this name, oldest first: (number, content, file name)."""
    form = re.compile(re.escape(name) + r"-([0-9]{6,})-([0-9a-f]{12})\.tar\.gz")
    found = [(int(m[1]), m[2], m[0]) for m in map(form.fullmatch, os.listdir(target)) if m]
    return sorted(found)


def sweep(target, name):
    """Removes what an interrupted run of this name left; the resource lock keeps others of it away."""
    partial = os.path.join(target, f".{name}.partial")
    if os.path.lexists(partial):
        os.unlink(partial)
        print("swept a partial archive of an interrupted run", flush=True)
    form = re.compile(re.escape(name) + r"-[0-9]{6,}-[0-9a-f]{12}\.tar\.gz\.sha256(\.partial)?")
    for file in os.listdir(target):
        if form.fullmatch(file) and (file.endswith(".partial") or not os.path.exists(os.path.join(target, file[:-7]))):
            os.unlink(os.path.join(target, file))


def recorded_sha256(target, file):
    """What the checksum file says, or None."""
    try:
        with open(os.path.join(target, file + ".sha256"), encoding="ascii") as stream:
            return stream.read(64)
    except (OSError, UnicodeDecodeError):
        return None


def sync_folder(path):
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def publish(target, file, partial, sha256):
    """Checksum first, then the archive by rename: an archive is never seen without its checksum."""
    checksum = os.path.join(target, file + ".sha256")
    with open(checksum + ".partial", "w", encoding="ascii") as stream:
        stream.write(f"{sha256}  {file}\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(checksum + ".partial", checksum)
    os.rename(partial, os.path.join(target, file))
    sync_folder(target)


def archive(source, members, content, target, name, file):
    """Writes, reads back and publishes one archive; gives its SHA-256. On failure nothing of it stays."""
    partial = os.path.join(target, f".{name}.partial")
    try:
        step("archive")
        write_archive(source, members, partial)
        step("verify")
        if content_of_archive(partial) != content:
            raise Failure(75, "the source changed while it was archived")
        sha256 = sha256_of(partial)
        step("publish")
        publish(target, file, partial, sha256)
        return sha256
    except BaseException:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise


def rotate(target, name, keep):
    """The archive goes first: a checksum without an archive is swept next time, the reverse would look whole."""
    removed = [file for _, _, file in archives_in(target, name)[:-keep]]
    for file in removed:
        os.unlink(os.path.join(target, file))
        if os.path.exists(os.path.join(target, file + ".sha256")):
            os.unlink(os.path.join(target, file + ".sha256"))
        print(f"rotated out {file}", flush=True)
    return removed


def backup():
    params = read_params()
    source, target, name = params["source"], params["target"], params["name"]
    sweep(target, name)

    step("scan")
    members = scan(source, params.get("exclude", []))
    files = [info for _, info in members if stat.S_ISREG(info.st_mode)]
    size = sum(info.st_size for info in files)
    content = content_of_source(source, members)
    print(f"{len(files)} files, {size} bytes in {shown(source)}, content {content[:12]}", flush=True)

    earlier = archives_in(target, name)
    newest = earlier[-1] if earlier else (0, None, None)
    file, created, sha256 = newest[2], False, None
    if newest[1] == content[:12]:
        # Not trusted by its name: a damaged archive is replaced, not counted on.
        sha256 = sha256_of(os.path.join(target, file))
        if sha256 == recorded_sha256(target, file):
            print(f"nothing new: {file} holds this content and is intact", flush=True)
        else:
            print(f"{file} is damaged, a new archive takes its place", flush=True)
            sha256 = None
    if sha256 is None:
        file = f"{name}-{newest[0] + 1:06d}-{content[:12]}.tar.gz"
        sha256 = archive(source, members, content, target, name, file)
        created = True
        print(f"wrote and verified {file}", flush=True)

    step("rotate")
    removed = rotate(target, name, params["keep"])
    return {
        "archive": file,
        "created": created,
        "content": content,
        "sha256": sha256,
        "files": len(files),
        "bytes": size,
        "removed": removed,
    }


def main():
    try:
        result = backup()
    except Failure as failure:
        print(f"backup: {failure}", file=sys.stderr)
        return failure.code
    except FileNotFoundError as error:
        print(f"backup: {shown(error.filename or '?')} went away while it was read", file=sys.stderr)
        return 75
    except (OSError, tarfile.TarError) as error:
        where = f": {shown(error.filename)}" if getattr(error, "filename", None) else ""
        print(f"backup: {getattr(error, 'strerror', None) or error}{where}", file=sys.stderr)
        return 1
    if path := os.environ.get("DISPATCH_RESULT"):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(result, file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
