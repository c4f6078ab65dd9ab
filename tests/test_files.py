"""Files are whole or absent: whatever happens while one is written, its final name holds the old or the new content."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from safmn.configuration import read_yaml
from safmn.errors import UserError
from safmn.files import atomic, read_json, remove_strays, write_json, write_text


def only(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Whatever(BaseException):
    """A kill that `finally` still sees."""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Whatever])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_failed_write_leaves_what_was_there(tmp_path, error, before):
    path = tmp_path / "file.txt"
    if before:
        path.write_text(before)

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert only(tmp_path) == (["file.txt"] if before else [])
    assert not before or path.read_text() == before


def test_nothing_under_the_final_name_before_the_end(tmp_path):
    path = tmp_path / "a" / "b" / "file.csv"
    with atomic(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"  # writers that choose a format by it
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert only(path.parent) == ["file.csv"]


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """What is synced and renamed, in its order, by the names of the files."""
    done = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor):
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        return real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append(f"rename to {to.name}"), real_replace(path, to)))
    return done


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not tell what a descriptor is")
def test_a_power_cut_can_neither_empty_nor_undo_what_was_renamed(tmp_path, order):
    """Content before the rename, the folder that holds the name after it; new folders in their own folders, too."""
    write_text(tmp_path / "file.txt", "content")
    assert order[0].startswith("sync .file.")
    assert order[1:] == ["rename to file.txt", f"sync {tmp_path.name}"]
    order.clear()
    write_text(tmp_path / "a" / "b" / "file.txt", "content")
    assert order[1:] == ["rename to file.txt", "sync b", "sync a", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_synced(tmp_path, monkeypatch, code):
    """Some file systems cannot do that, and are written to all the same; a disk that fails is an error."""
    real_sync = os.fsync

    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real_sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    if code == errno.EIO:
        with pytest.raises(UserError, match=r"cannot write .*file\.txt"):
            write_text(tmp_path / "file.txt", "content")
    else:
        write_text(tmp_path / "file.txt", "content")
        assert (tmp_path / "file.txt").read_text() == "content"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_mode_of_an_ordinary_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file.txt", "content")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o666 & ~mask


KILLED = """
import os, signal, sys
from pathlib import Path
from safmn.files import atomic
where, path = sys.argv[1], Path(sys.argv[2])
def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "sync":
    os.fsync = kill
if where == "rename":
    Path.replace = kill
with atomic(path) as temporary:
    temporary.write_text("new" * 1000)
    if where == "write":
        kill()
"""


@pytest.mark.parametrize("where", ["write", "sync", "rename"])
def test_killed_while_writing(tmp_path, where):
    """SIGKILL: the old content stays; what is left under a temporary name can be removed by the next who writes."""
    path = tmp_path / "file.txt"
    path.write_text("old")
    result = subprocess.run([sys.executable, "-c", KILLED, where, str(path)], check=False)
    assert result.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(only(tmp_path)) == 2
    remove_strays(path)
    assert only(tmp_path) == ["file.txt"]


def test_only_its_own_strays_are_removed(tmp_path):
    kept = [
        ".last_raw.abcd1234.safetensors",
        ".last.abcd1234.json",
        ".last.abcd123.safetensors",
        ".last.safetensors",
        ".mine",
        "last.abcd1234.safetensors",
    ]
    for name in (*kept, ".last.abcd1234.safetensors", ".last.a_cd1234.safetensors"):
        (tmp_path / name).write_text("")
    for name in (".a[b].12345678.csv", ".ab.12345678.csv"):
        (tmp_path / name).write_text("")
    remove_strays(tmp_path / "last.safetensors")
    remove_strays(tmp_path / "a[b].csv")  # no pattern
    assert only(tmp_path) == sorted([*kept, ".ab.12345678.csv"])


def test_many_writers_of_one_file(tmp_path):
    """Any of them wins, none is mixed with another."""
    path = tmp_path / "file.txt"
    contents = [str(number) * 10_000 for number in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, content)) for content in contents for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents
    assert only(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_refuses(tmp_path, monkeypatch, number):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(
        UserError, match=f"cannot write {path}: {os.strerror(number)}; free some space or choose another place"
    ):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert only(tmp_path) == ["file.txt"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "file" / "x.txt", tmp_path / "folder", tmp_path / "pipe", tmp_path / ("long" * 100)):
        with pytest.raises(UserError, match="cannot write"):
            write_text(path, "content")
    assert only(tmp_path) == ["file", "folder", "pipe"]
    assert only(tmp_path / "folder") == ["inner"]


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "file.txt").symlink_to(tmp_path / "target")
    write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "target").read_text() == "precious"
    assert (tmp_path / "file.txt").read_text() == "new"


@pytest.mark.parametrize("name", ["two words", "it's", 'a "b"', "größe 画像", "$(touch x);&|*?[0]", "-dash", ".hidden"])
def test_odd_names(tmp_path, name):
    write_json(tmp_path / name / f"{name}.json", {"name": name})
    assert read_json(tmp_path / name / f"{name}.json") == {"name": name}
    assert only(tmp_path / name) == [f"{name}.json"]
    assert only(tmp_path) == [name]


@pytest.mark.parametrize(
    "sign", ["\x7f", "\x80", "\x85", "\x9b", "\xa0", "\u2028", "\u2029", "\ufeff", "\uffff", "\x1b", "\n", "é", "🎉"]
)
def test_json_is_yaml_whatever_a_name_holds(tmp_path, sign):
    """A study is kept as JSON and read as YAML, which takes some characters for others, or for a mistake."""
    content = {f"a{sign}b": [f"{sign}{sign}", f"x {sign} y"]}
    file = tmp_path / "study.json"
    write_json(file, content)
    assert read_json(file) == content
    assert read_yaml(file) == content


def test_json_that_every_reader_knows(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"ä": [1, 0.1, None, True]})
    assert json.loads(path.read_bytes().decode("utf-8")) == {"ä": [1, 0.1, None, True]}
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(path, {"value": value})
    assert read_json(path) == {"ä": [1, 0.1, None, True]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1} x'])
def test_damaged_json(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"file\.json is not readable JSON"):
        read_json(path)


def test_missing_json(tmp_path):
    with pytest.raises(UserError, match=r"none.json is missing: run the step that makes it first"):
        read_json(tmp_path / "none.json")
