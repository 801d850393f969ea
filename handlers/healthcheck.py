#!/usr/bin/python3 -I
"""Wait until TCP ports accept, pages answer, files are fresh and disks have room.

All checks of a round are made, so that the log names everything that is not as it should be. Exit 0: all hold. 75: not
yet, after `tries` rounds; the router's `retry` asks again later. 65: the params cannot be used. It changes nothing.
"""

import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
import urllib.parse

TIMEOUT = 5  # seconds for one connection: a hanging server must not use up the run's time
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class NotYet(Exception):
    """The check does not hold, and why."""


class BadParams(Exception):
    """No round of checks would ever pass."""


def seconds(text):
    match = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", text)
    if not match:
        raise BadParams(f"{json.dumps(text)} is not a duration such as 30s")
    return int(match[1]) * UNITS[match[2]]


def check_tcp(check):
    host, _, port = check["tcp"].rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadParams(f"{json.dumps(check['tcp'])} is not host:port")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT):
        return "accepts"


def check_http(check):
    try:
        url = urllib.parse.urlsplit(check["http"])
        host, port = url.hostname, url.port
    except ValueError as error:
        raise BadParams(f"{json.dumps(check['http'])}: {error}") from None
    if url.scheme not in ("http", "https") or not host:
        raise BadParams(f"{json.dumps(check['http'])} is not a http(s) URL")
    if url.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        # Redirects are not followed: the status that is asked for is the one of this very URL.
        connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""))
        answer = connection.getresponse()
        body = answer.read(1 << 20)
    finally:
        connection.close()
    wanted = check.get("status", 200)
    if answer.status != wanted:
        raise NotYet(f"answers {answer.status}, not {wanted}")
    if "contains" in check and check["contains"].encode() not in body:
        raise NotYet(f"answers {answer.status}, without {json.dumps(check['contains'])}")
    return f"answers {answer.status}"


def check_file(check):
    limit = seconds(check["max_age"]) if "max_age" in check else None
    age = time.time() - os.stat(check["file"]).st_mtime
    if limit is None:
        return "exists"
    if age > limit:
        raise NotYet(f"changed {int(age)} s ago, allowed are {check['max_age']}")
    return f"changed within {check['max_age']}"


def check_disk(check):
    wanted = check.get("min_free", "10%")
    match = re.fullmatch(r"([0-9]+)([KMG%]?)", wanted)
    if not match:
        raise BadParams(f"{json.dumps(wanted)} is not a size such as 10G or 10%")
    stats = os.statvfs(check["disk"])
    free, total = stats.f_bavail * stats.f_frsize, stats.f_blocks * stats.f_frsize
    least = total * int(match[1]) // 100 if match[2] == "%" else int(match[1]) * SIZES[match[2]]
    if free < least:
        raise NotYet(f"{free >> 20} MiB free, wanted are {wanted}")
    return f"has {wanted} free"


CHECKS = {"tcp": check_tcp, "http": check_http, "file": check_file, "disk": check_disk}


def one(check):
    """(holds, line for the log)"""
    kinds = [kind for kind in CHECKS if kind in check]
    if len(kinds) != 1:
        raise BadParams(f"each check has exactly one of {', '.join(CHECKS)}")
    name = f"{kinds[0]} {json.dumps(check[kinds[0]])}"
    try:
        return True, f"ok       {name} {CHECKS[kinds[0]](check)}"
    except NotYet as error:
        return False, f"not yet  {name} {error}"
    except (OSError, http.client.HTTPException) as error:
        # A broken answer of a server is text that it chose: quoted, so that it cannot forge a line.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return False, f"not yet  {name} {json.dumps(str(reason))[1:-1]}"


def main():
    try:
        with open(os.environ["DISPATCH_PARAMS"], encoding="utf-8") as file:
            params = json.load(file)
        checks, tries = params.get("checks") or [], int(params.get("tries", 3))
        if not checks or tries < 1:
            raise BadParams("`checks` must not be empty, and `tries` at least 1")
        wait = seconds(params.get("wait", "2s"))
        bad = []
        for number in range(1, tries + 1):
            if progress := os.environ.get("DISPATCH_PROGRESS"):
                with open(progress, "a", encoding="utf-8") as file:
                    file.write(f"{number}/{tries} check\n")
            results = [one(check) for check in checks]
            for _, line in results:
                print(line, flush=True)
            bad = [line.split(maxsplit=2)[2] for holds, line in results if not holds]
            if not bad:
                break
            if number < tries:
                time.sleep(wait)
    except (BadParams, ValueError, TypeError) as error:
        print(f"healthcheck: {error}", file=sys.stderr)
        return 65
    if path := os.environ.get("DISPATCH_RESULT"):
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"healthy": not bad, "checks": len(checks), "rounds": number, "not_yet": bad[:20]}, file)
    return 75 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
