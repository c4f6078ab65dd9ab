"""Downloads from a real server that cuts connections, lies and changes its mind: the file is right or absent."""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from safmn import files
from safmn.data import download as module
from safmn.data.download import Stopped, Unavailable, download
from safmn.data.remote import Corrections, FileFacts, Remote, corrections
from safmn.errors import UserError

from .loopback import GOOD, Answer, redirect, serving

DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
SHA = hashlib.sha256(DATA).hexdigest()
ATTEMPTS = 4
PATH = "/weights/net.bin"


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(module, "MAX_SILENCE", 1)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as running:
        running.files[PATH] = DATA
        yield running


def remote(site, *paths: str, **known) -> Remote:
    known = known or {"size": len(DATA), "sha256": SHA}
    return Remote("net.bin", tuple(site.base + path for path in paths or (PATH,)), **known)


def unpublished(site, name: str = "net.bin", path: str = PATH) -> Remote:
    return Remote(name, (site.base + path,))


def fetch(what: Remote, folder: Path, **options) -> Path:
    return download(what, folder, **{"attempts": ATTEMPTS} | options)


def visible(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def test_a_good_server(site, tmp_path):
    seen = []
    path = fetch(remote(site), tmp_path / "new" / "folder", watch=lambda *each: seen.append(each))
    assert path.read_bytes() == DATA
    assert visible(path.parent) == ["net.bin"]
    assert ("download", len(DATA), len(DATA)) in seen
    assert seen[-1] == ("verify", len(DATA), len(DATA))
    assert site.requests(PATH) == [None]
    assert fetch(remote(site), path.parent) == path  # verified where it is, not asked for again
    assert site.requests(PATH) == [None]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell what a descriptor is")
def test_a_power_cut_can_neither_empty_nor_undo_a_download(site, tmp_path, monkeypatch):
    """Its bytes are on the disk before it gets its name."""
    done, real_sync, real_replace = [], os.fsync, Path.replace

    def sync(descriptor):
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        return real_sync(descriptor)

    def replace(path, to):
        done.append(f"rename {path.name}")
        return real_replace(path, to)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    fetch(remote(site), tmp_path)
    at = done.index("rename net.bin.part")
    assert "sync net.bin.part" in done[:at]
    assert done[at + 1] == f"sync {tmp_path.name}"


def test_a_cut_connection_is_resumed_where_it_was_cut(site, tmp_path):
    site.answers[PATH] = [Answer(cut=100_000), Answer(cut=50_000), Answer(cut=1)]
    assert fetch(remote(site), tmp_path).read_bytes() == DATA
    assert site.requests(PATH) == [None, "bytes=100000-", "bytes=150000-", "bytes=150001-"]


def test_attempts_count_only_while_nothing_new_arrives(site, tmp_path):
    site.always[PATH] = Answer(cut=20_000)
    assert fetch(remote(site), tmp_path).read_bytes() == DATA
    assert len(site.log) == 15 > ATTEMPTS


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(site, tmp_path):
    site.always[PATH] = Answer(cut=1_000, ranges=False)
    with pytest.raises(Unavailable, match=r"ends after 1,000 of 300,000 bytes, 4 times in a row.*net\.bin\.part"):
        fetch(remote(site), tmp_path)
    assert visible(tmp_path) == ["net.bin.part"]
    assert (tmp_path / "net.bin.part").read_bytes() == DATA[:1_000]
    site.always.clear()
    assert fetch(remote(site), tmp_path).read_bytes() == DATA
    assert site.log[-1][1] == "bytes=1000-"


@pytest.mark.parametrize("answer", [Answer(data=OTHER), Answer(data=DATA[:-1] + b"?")], ids=["all", "one byte"])
def test_wrong_bytes_never_get_the_name(site, tmp_path, answer):
    site.always[PATH] = answer
    with pytest.raises(Unavailable) as caught:
        fetch(remote(site), tmp_path)
    assert SHA in str(caught.value)
    assert hashlib.sha256(answer.data).hexdigest() in str(caught.value)
    assert visible(tmp_path) == []
    assert len(site.log) == 1  # they came in one go: more of the same is not asked for


def test_wrong_bytes_are_caught_by_md5_where_that_is_all_there_is(site, tmp_path):
    md5 = hashlib.md5(DATA).hexdigest()
    assert fetch(remote(site, size=None, md5=md5), tmp_path / "good").read_bytes() == DATA
    site.always[PATH] = Answer(data=OTHER)
    with pytest.raises(Unavailable, match=f"md5 is .* instead of {md5}"):
        fetch(remote(site, size=None, md5=md5), tmp_path / "bad")


@pytest.mark.parametrize("size", [0, 299_999, 300_001])
def test_a_wrong_length_is_refused_before_the_body(site, tmp_path, size):
    site.always[PATH] = Answer(data=(DATA + b"more")[:size])
    with pytest.raises(Unavailable, match=f"offers {size:,} bytes instead of 300,000"):
        fetch(remote(site), tmp_path)
    assert visible(tmp_path) == []


def test_more_than_was_announced(site, tmp_path):
    site.always[PATH] = Answer(data=DATA + b"more", chunked=True)
    with pytest.raises(Unavailable, match="sends more than 300,000 bytes"):
        fetch(remote(site), tmp_path)
    site.always[PATH] = Answer(chunked=True)
    with pytest.raises(Unavailable, match="sends more than 1,000 bytes"):
        fetch(remote(site, size=None, sha256=SHA, limit=1000), tmp_path)
    assert "net.bin" not in visible(tmp_path)


def test_mirrors_are_tried_in_turn_and_continue_each_other(site, tmp_path):
    site.files |= {"/b": DATA, "/c": DATA}
    site.always |= {"/a": Answer(status=404), "/b": Answer(cut=100_000, ranges=False)}
    assert fetch(remote(site, "/a", "/b", "/c"), tmp_path).read_bytes() == DATA
    assert site.requests("/a") == [None]
    assert site.requests("/c") == ["bytes=100000-"]


def test_a_mirror_with_other_content_does_not_spoil_the_next(site, tmp_path):
    site.files |= {"/a": OTHER, "/b": DATA}
    site.answers["/a"] = [Answer(cut=100_000), Answer(status=404)]
    # The part of /a is continued from /b, found wrong as a whole, and fetched afresh.
    assert fetch(remote(site, "/a", "/b"), tmp_path).read_bytes() == DATA
    assert site.requests("/b") == ["bytes=100000-", None]


def test_all_reasons_are_named_where_no_mirror_delivers(site, tmp_path):
    site.files |= {"/c": OTHER}
    with pytest.raises(Unavailable) as caught:
        fetch(remote(site, "/a", "/b", "/c"), tmp_path)
    assert str(caught.value).count("HTTP 404") == 2
    assert "/c: its sha256" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_waited_out(site, tmp_path, code):
    site.answers[PATH] = [Answer(status=code)] * 3
    assert fetch(remote(site), tmp_path).read_bytes() == DATA
    assert len(site.log) == 4


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 451, 204, 304])
def test_other_codes_are_final(site, tmp_path, code):
    site.always[PATH] = Answer(status=code)
    with pytest.raises(Unavailable, match=f"HTTP {code}"):
        fetch(remote(site), tmp_path)
    assert len(site.log) == 1


def test_the_body_of_a_refused_answer_is_not_waited_for(site, tmp_path):
    site.always[PATH] = Answer(status=404, data=DATA, pause=1.0)  # 37 s
    with pytest.raises(Unavailable, match="HTTP 404"):
        fetch(remote(site), tmp_path)
    assert site.sent < len(DATA)


def test_waits_grow_to_a_limit_and_heed_retry_after(site, tmp_path, monkeypatch):
    site.answers[PATH] = [Answer(status=500)] * 4 + [Answer(status=503, headers=(("Retry-After", "7"),))]
    site.answers[PATH] += [Answer(status=503, headers=(("Retry-After", "86400"),))]
    waits = []
    monkeypatch.setattr(module, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(module, "MAX_WAIT", 20.0)
    monkeypatch.setattr(module._Job, "_pause", lambda _, seconds: waits.append(seconds))
    fetch(remote(site), tmp_path, attempts=10)
    assert waits == [1, 2, 4, 8, 16, 20]
    site.files["/again"] = DATA
    site.answers["/again"] = [Answer(status=503, headers=(("Retry-After", "7"),))]
    fetch(remote(site, "/again"), tmp_path / "again")
    assert waits[6:] == [7]


def test_no_server_at_all(site, tmp_path):
    gone = Remote("net.bin", ("http://127.0.0.1:9/x", "http://no-such-host.invalid/x"), len(DATA), SHA)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9.*no-such-host"):
        fetch(gone, tmp_path)


def test_redirects_are_followed(site, tmp_path):
    site.answers["/1"] = [redirect("/2", 301)] * 2
    site.answers["/2"] = [redirect(f"{site.base}{PATH}", 307)] * 2
    site.answers[PATH] = [Answer(cut=1000)]
    assert fetch(remote(site, "/1"), tmp_path).read_bytes() == DATA
    assert site.requests(PATH) == [None, "bytes=1000-"]


def test_endless_redirects_end(site, tmp_path):
    site.always |= {"/1": redirect("/2"), "/2": redirect("/1")}
    with pytest.raises(Unavailable, match=r"Maximum \(10\) redirects"):
        fetch(remote(site, "/1"), tmp_path)
    assert len(site.log) == 11


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "http://", "//[x"])
def test_redirects_lead_to_http_only(site, tmp_path, target):
    site.always["/1"] = redirect(target)
    with pytest.raises(Unavailable):
        fetch(remote(site, "/1"), tmp_path)
    assert visible(tmp_path) == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes a certificate, is not installed")
def test_a_redirect_does_not_leave_encryption(site, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    monkeypatch.setenv("CURL_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as safe:
        safe.files[PATH] = DATA
        safe.always["/away"] = redirect(site.base + PATH)
        assert fetch(remote(safe), tmp_path / "safe").read_bytes() == DATA
        with pytest.raises(Unavailable, match='Protocol "http"'):
            fetch(remote(safe, "/away"), tmp_path / "away")
    assert site.log == []


def test_slow_is_waited_for_and_silent_is_resumed(site, tmp_path):
    site.answers[PATH] = [Answer(cut=100_000, stall=3.0), Answer(pause=0.01)]
    assert fetch(remote(site), tmp_path).read_bytes() == DATA
    assert site.requests(PATH) == [None, "bytes=100000-"]


def test_without_a_published_checksum_two_pieces_are_not_joined(site, tmp_path):
    """Nothing would tell whether they are of one version."""
    site.answers[PATH] = [Answer(cut=100_000), Answer(data=OTHER)]
    assert fetch(unpublished(site), tmp_path).read_bytes() == OTHER
    assert site.requests(PATH) == [None, None]
    (tmp_path / "net.bin").unlink()
    (tmp_path / "checksums.json").unlink()
    site.answers[PATH] = [Answer(cut=100_000), Answer(status=404)]
    with pytest.raises(Unavailable):
        fetch(unpublished(site), tmp_path)
    assert visible(tmp_path) == []


def test_without_a_published_checksum_pieces_of_one_version_are_joined(site, tmp_path):
    first, second = ((("ETag", tag),) for tag in ('"1"', '"2"'))
    site.answers[PATH] = [Answer(cut=100_000, headers=first), Answer(status=404)]
    with pytest.raises(Unavailable, match="a repeat resumes there"):
        fetch(unpublished(site), tmp_path)
    site.answers[PATH] = [Answer(cut=50_000, headers=first), Answer(data=OTHER, headers=second)]
    site.always[PATH] = Answer(data=OTHER, headers=second)
    assert fetch(unpublished(site), tmp_path).read_bytes() == OTHER
    assert site.requests(PATH) == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-", None]
    assert sorted(file.name for file in tmp_path.iterdir() if "version" in file.name) == []


def test_a_part_answer_from_another_place_is_not_appended(site, tmp_path):
    site.answers[PATH] = [Answer(cut=100_000), Answer(shift=-10)]
    assert fetch(remote(site), tmp_path).read_bytes() == DATA


def test_a_part_of_somebody_else(site, tmp_path):
    """Garbage under the part's name is found out in the end, and costs one download more."""
    (tmp_path / "net.bin.part").write_bytes(OTHER[:1234])
    assert fetch(remote(site), tmp_path).read_bytes() == DATA
    assert site.requests(PATH) == ["bytes=1234-", None]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("length", [300_000, 300_001, 400_000])
@pytest.mark.parametrize("size", [None, len(DATA)])
def test_a_part_that_is_long_enough(site, tmp_path, length, size, ranges):
    site.always[PATH] = Answer(ranges=ranges)
    (tmp_path / "net.bin.part").write_bytes((DATA + OTHER)[:length])
    assert fetch(remote(site, size=size, sha256=SHA), tmp_path).read_bytes() == DATA
    assert visible(tmp_path) == ["net.bin"]
    if length == len(DATA):
        assert None not in site.requests(PATH)  # whole already: nothing was sent again


def test_a_checksum_that_nobody_published_is_recorded_and_compared(site, tmp_path):
    path = fetch(unpublished(site), tmp_path)
    record = json.loads((tmp_path / "checksums.json").read_text())
    assert record["net.bin"]["sha256"] == SHA
    assert record["net.bin"]["url"] == site.base + PATH
    path.unlink()
    fetch(unpublished(site), tmp_path)
    assert json.loads((tmp_path / "checksums.json").read_text()) == record
    path.unlink()
    site.files[PATH] = OTHER
    other = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(Unavailable) as caught:
        fetch(unpublished(site), tmp_path)
    assert SHA in str(caught.value)
    assert other in str(caught.value)
    assert visible(tmp_path) == ["checksums.json"]
    path.write_bytes(OTHER)  # somebody put it there
    with pytest.raises(UserError, match=f"is there already.*{other}.*{SHA}"):
        fetch(unpublished(site), tmp_path)
    assert path.read_bytes() == OTHER
    (tmp_path / "checksums.json").unlink()
    assert fetch(unpublished(site), tmp_path) == path
    assert json.loads((tmp_path / "checksums.json").read_text())["net.bin"]["sha256"] == other


@pytest.mark.parametrize("damage", ["[]", "{", '{"net.bin": "x"}'])
def test_a_damaged_record_is_named(site, tmp_path, damage):
    (tmp_path / "checksums.json").write_text(damage)
    with pytest.raises(UserError, match=r"checksums\.json"):
        fetch(unpublished(site), tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "headers", "reason"),
    [
        ("w.pth", b"<!DOCTYPE html><p>login", (("Content-Type", "text/html; charset=utf-8"),), "web page"),
        ("w.pth", b"<!DOCTYPE html><p>login", (), "is no .pth file"),
        ("w.pt", b"version https://git-lfs.github.com/spec/v1\n", (), "is no .pt file"),
        ("w.zip", b"", (), "is no .zip file"),
        ("w.tar", b"x" * 1024, (), "is no .tar file"),
    ],
)
def test_an_apology_is_not_recorded_as_the_file(site, tmp_path, name, content, headers, reason):
    site.always["/x"] = Answer(data=content, headers=headers)
    with pytest.raises(Unavailable, match=reason):
        fetch(unpublished(site, name, "/x"), tmp_path)
    assert visible(tmp_path) == []


def test_an_end_that_could_be_a_cut_is_not_trusted(site, tmp_path):
    site.always[PATH] = Answer(length=-1)
    with pytest.raises(Unavailable, match="does not say how long"):
        fetch(unpublished(site), tmp_path)
    site.answers[PATH] = [Answer(length=-1, cut=100_000)]
    assert fetch(remote(site), tmp_path).read_bytes() == DATA  # here the size is published
    assert site.log[-1][1] == "bytes=100000-"


def test_chunks_say_where_they_end(site, tmp_path):
    site.answers[PATH] = [Answer(chunked=True, cut=100_000), Answer(chunked=True)]
    assert fetch(unpublished(site), tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("content", [OTHER, DATA[:100], b""])
def test_a_file_that_is_there_and_another_is_left_alone(site, tmp_path, content):
    (tmp_path / "net.bin").write_bytes(content)
    with pytest.raises(UserError, match="is there already"):
        fetch(remote(site), tmp_path)
    assert (tmp_path / "net.bin").read_bytes() == content
    assert site.log == []


def test_space_is_checked_before_the_first_byte(site, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=files.RESERVE + len(DATA) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"needs 0\.3 MB in .*free some"):
        fetch(remote(site), tmp_path)
    assert site.log == []
    with pytest.raises(UserError, match=r"needs 0\.3 MB"):  # here the server says how long it is
        fetch(unpublished(site), tmp_path)
    assert visible(tmp_path) == []
    (tmp_path / "net.bin.part").write_bytes(DATA[:1])  # one byte less is needed
    assert fetch(remote(site), tmp_path).read_bytes() == DATA


def test_a_disk_that_fills_up(site, tmp_path):
    """A real one, of 200 KB; more room, and the download goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "fetch.py"
    script.write_text(
        "import sys; from safmn.data.download import *; from safmn.data.remote import Remote\n"
        "what = Remote('net.bin', (sys.argv[1],), sha256=sys.argv[2])\n"
        "try: print(download(what, sys.argv[3]).stat().st_size)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    shell = (
        'mount -t tmpfs -o size=200k none "$4" || exit 77; "$0" "$@"; ls "$4"; '
        'mount -o remount,size=64m "$4"; "$0" "$@"'
    )
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: no small disk can be made")
    site.always[PATH] = Answer(chunked=True)
    command = ["unshare", "-rm", "sh", "-c", shell, sys.executable, script, site.base + PATH, SHA, disk]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode in (1, 77) and not done.stdout:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    first, *listing, last = done.stdout.splitlines()
    assert first.startswith("UserError cannot write")
    assert "No space left" in first
    assert listing == ["net.bin.part"]
    assert last == str(len(DATA))
    assert site.requests(PATH)[0] is None
    assert site.requests(PATH)[1] is not None


def test_a_folder_that_cannot_be(site, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*choose another folder"):
        fetch(remote(site), tmp_path / "file" / "below")


def test_two_downloaders_fetch_once(site, tmp_path):
    site.answers[PATH] = [Answer(pause=0.01)]
    results, seen = [], set()

    def work() -> None:
        results.append(fetch(remote(site), tmp_path, watch=lambda stage, *_: seen.add(stage)).read_bytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [DATA] * 4
    assert site.requests(PATH) == [None]
    assert "wait" in seen


def test_kill_9_loses_nothing_that_arrived(site, tmp_path):
    site.answers[PATH] = [Answer(pause=0.02)]
    script = (
        "import sys; from safmn.data.download import *; from safmn.data.remote import Remote\n"
        "download(Remote('net.bin', (sys.argv[1],), int(sys.argv[2]), sys.argv[3]), sys.argv[4])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, site.base + PATH, str(len(DATA)), SHA, str(tmp_path)])
    part = tmp_path / "net.bin.part"
    while child.poll() is None and not (part.exists() and part.stat().st_size > 30_000):
        time.sleep(0.005)
    assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert "net.bin" not in visible(tmp_path)
    arrived = part.stat().st_size
    assert fetch(remote(site), tmp_path).read_bytes() == DATA  # the lock died with its holder
    assert site.requests(PATH) == [None, f"bytes={arrived}-"]


@pytest.mark.parametrize("answer", [Answer(status=500), Answer(cut=30_000, stall=600)], ids=["waiting", "silent"])
def test_stop(site, tmp_path, monkeypatch, answer):
    """Also while nothing arrives."""
    monkeypatch.setattr(module, "FIRST_WAIT", 600.0)
    monkeypatch.setattr(module, "MAX_SILENCE", 600)
    site.answers[PATH] = [answer]
    calls = []

    def watch(*call) -> None:
        calls.append(call)
        if calls.count(call) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        fetch(remote(site), tmp_path, watch=watch)
    assert calls[-1] == (("download", 30_000, len(DATA)) if answer.cut else ("retry", 0, None))
    assert "net.bin" not in visible(tmp_path)
    assert fetch(remote(site), tmp_path).read_bytes() == DATA
    assert site.log[-1][1] == ("bytes=30000-" if answer.cut else None)


FAULTS = [
    lambda draw: Answer(cut=draw.randrange(len(DATA))),
    lambda draw: Answer(cut=draw.randrange(len(DATA)), ranges=False),
    lambda draw: Answer(cut=draw.randrange(len(DATA)), chunked=True),
    lambda draw: Answer(cut=draw.randrange(len(DATA)), data=OTHER),
    lambda draw: Answer(data=DATA[: draw.randrange(len(DATA))], length=len(DATA)),
    lambda draw: Answer(shift=draw.randrange(-1000, 1000)),
    lambda draw: Answer(status=draw.choice([500, 503, 429, 404, 416])),
    lambda draw: redirect(draw.choice(["/nowhere", PATH, "ftp://x/"])),
    lambda draw: Answer(data=OTHER),
    lambda draw: Answer(length=-1, cut=draw.randrange(len(DATA))),
    lambda draw: GOOD,
]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("published", [True, False])
def test_any_faults_in_any_order(site, tmp_path, seed, published):
    """Right or absent, and in the end, when the server is good again, right."""
    draw = random.Random(seed)
    what = remote(site) if published else unpublished(site)
    for _ in range(4):
        site.answers[PATH] = [draw.choice(FAULTS)(draw) for _ in range(4)]
        try:
            path = fetch(what, tmp_path)
        except Unavailable:
            assert "net.bin" not in visible(tmp_path)
            continue
        # Without a checksum either version is a whole file; never a mixture.
        assert path.read_bytes() in ([DATA] if published else [DATA, OTHER])
        path.unlink()
        (tmp_path / "checksums.json").unlink(missing_ok=True)
    site.answers.clear()
    assert fetch(what, tmp_path).read_bytes() == DATA


def test_a_mirror_takes_the_place_of_every_host():
    what = Remote("x", ("https://a.example/p/x?download=1", "https://b.example:8443/p/x?download=1", "http://c/y"))
    assert Corrections(base="http://mirror:1/sub").apply(what).urls == (
        "http://mirror:1/sub/p/x?download=1",
        "http://mirror:1/sub/y",
    )
    assert Corrections().apply(what) == what
    known = Corrections(files={"x": FileFacts(size=3)}).apply(dataclasses.replace(what, sha256=SHA, md5="0" * 32))
    assert (known.size, known.sha256, known.md5) == (3, None, None)


@pytest.mark.parametrize("base", ["ftp://x", "x", "http://", "http://h:port", "http://h/?q", "http://[x", "file:///"])
def test_a_base_that_is_none(base):
    with pytest.raises(UserError, match="base URL"):
        corrections(base)


def test_corrections_from_the_environment_and_a_file(tmp_path, monkeypatch):
    file = tmp_path / "corrections.json"
    file.write_text(json.dumps({"files": {"a": {"size": 1, "sha256": "0" * 64}}, "images": {"Set5": 2}}))
    monkeypatch.setenv("SAFMN_MIRROR", "http://mirror/")
    monkeypatch.setenv("SAFMN_CORRECTIONS", str(file))
    facts = FileFacts(size=1, sha256="0" * 64)
    assert corrections() == Corrections(base="http://mirror", files={"a": facts}, images={"Set5": 2})
    assert corrections("http://other").base == "http://other"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"x": {}}',
        '{"files": []}',
        '{"files": {"a": {"size": "1"}}}',
        '{"files": {"a": {"size": -1}}}',
        '{"files": {"a": {"sha256": "00"}}}',
        '{"files": {"a": {"md5": "' + "G" * 32 + '"}}}',
        '{"files": {"a": {"sha1": null}}}',
        '{"images": {"Set5": 0}}',
        '{"images": {"Set5": true}}',
    ],
)
def test_corrections_that_are_none(tmp_path, content):
    file = tmp_path / "corrections.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"corrections\.json"):
        corrections(None, file)
