"""The state folder: two generations, damage, another run's state, a second process, what kills leave behind."""

import contextlib
import hashlib
import io
import os
import random
import subprocess
import sys
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safmn.errors import UserError
from safmn.training import state
from safmn.training.state import StateFolder

KEY = "a" * 64


def content(number: int) -> dict:
    return {"weights": torch.full((50,), float(number)), "history": [[number, None, 0.5]], "collapse": None}


def filled(folder, iterations=(10, 20, 30), key=KEY) -> StateFolder:
    states = StateFolder(folder, key)
    states.acquire()
    for iteration in iterations:
        states.save(iteration, content(iteration))
    states.release()
    return states


def file(folder, iteration):
    return folder / f"iteration-{iteration:09d}.state"


def loaded(folder, key=KEY):
    """What a new process would load: (iteration, remarks); checks the content."""
    iteration, found, remarks = StateFolder(folder, key).load()
    if iteration:
        assert torch.equal(found["weights"], content(iteration)["weights"])
        assert found["history"] == content(iteration)["history"]
    else:
        assert found == {}
    return iteration, remarks


DAMAGES = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "cut short": lambda data: data[: len(data) // 2],
    "last byte missing": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "a bit in the digest": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "a bit in the middle": lambda data: data[:1000] + bytes([data[1000] ^ 64]) + data[1001:],
    "a hole": lambda data: data[:512] + bytes(512) + data[1024:],
    "something else": lambda data: b"PK\3\4 not a state",
}


def test_two_generations_are_kept(tmp_path):
    filled(tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("iteration-*"))] == [
        "iteration-000000020.state",
        "iteration-000000030.state",
    ]
    assert loaded(tmp_path) == (30, [])


def test_nothing_there(tmp_path):
    assert loaded(tmp_path / "never") == (0, [])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_falls_back(tmp_path, damage):
    filled(tmp_path)
    newest = file(tmp_path, 30)
    damaged = DAMAGES[damage](newest.read_bytes())
    newest.write_bytes(damaged)
    iteration, (remark,) = loaded(tmp_path)
    assert iteration == 20
    assert "iteration-000000030.state is damaged" in remark
    # Kept for whoever wants to look at it, and out of the way: the next start says nothing.
    assert newest.with_suffix(".damaged").read_bytes() == damaged
    assert loaded(tmp_path) == (20, [])


def test_both_damaged_starts_anew(tmp_path):
    filled(tmp_path)
    for iteration in (20, 30):
        file(tmp_path, iteration).write_bytes(b"PK\3\4 not a state")
    iteration, remarks = loaded(tmp_path)
    assert iteration == 0
    assert len(remarks) == 2
    assert len(list(tmp_path.glob("*.damaged"))) == 2


def test_any_flipped_bit_is_noticed(tmp_path):
    """300 places all over the file."""
    filled(tmp_path)
    newest = file(tmp_path, 30)
    good = newest.read_bytes()
    generator = random.Random(0)
    for _ in range(300):
        place = generator.randrange(len(good))
        newest.write_bytes(good[:place] + bytes([good[place] ^ 1 << generator.randrange(8)]) + good[place + 1 :])
        assert StateFolder(tmp_path, KEY).load()[0] == 20
        newest.with_suffix(".damaged").unlink()


def test_going_on_after_a_fall_back(tmp_path):
    """The next saves take the damaged one's place, and there are two valid generations again."""
    filled(tmp_path)
    file(tmp_path, 30).write_bytes(b"")
    loaded(tmp_path)
    filled(tmp_path, (25, 30))
    assert loaded(tmp_path) == (30, [])
    file(tmp_path, 30).write_bytes(b"")
    assert loaded(tmp_path)[0] == 25


def test_an_unreadable_file_counts_as_damaged(tmp_path):
    filled(tmp_path)
    newest = file(tmp_path, 30)
    newest.unlink()
    newest.mkdir()
    assert loaded(tmp_path)[0] == 20


# --- another run's state ---


def test_another_key_is_set_aside(tmp_path):
    folder = tmp_path / "state"
    filled(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("iteration-*")}
    iteration, (remark,) = loaded(folder, "b" * 64)
    assert iteration == 0
    assert "state-set-aside-1" in remark
    assert "another specification, code or data" in remark
    aside = tmp_path / "state-set-aside-1"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert not list(folder.glob("iteration-*"))


def test_setting_aside_again_overwrites_nothing(tmp_path):
    folder = tmp_path / "state"
    for number in range(1, 4):
        filled(folder, (number,), key=str(number))
        loaded(folder, "other")
    found = {path.name: [each.name for each in path.iterdir()] for path in tmp_path.glob("state-set-aside-*")}
    assert found == {f"state-set-aside-{n}": [f"iteration-{n:09d}.state"] for n in (1, 2, 3)}


def test_setting_aside_nothing_leaves_no_folder(tmp_path):
    StateFolder(tmp_path / "state", KEY).set_aside()
    assert not list(tmp_path.iterdir())


def test_another_format_is_set_aside(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    filled(folder)
    monkeypatch.setattr(state, "FORMAT", state.FORMAT + 1)
    assert loaded(folder)[0] == 0
    assert (tmp_path / "state-set-aside-1").is_dir()


def test_set_aside_that_was_killed_half_way_is_finished(tmp_path):
    folder = tmp_path / "state"
    filled(folder)
    aside = tmp_path / "state-set-aside-1"
    aside.mkdir()
    file(folder, 20).rename(aside / file(folder, 20).name)
    assert loaded(folder, "other")[0] == 0
    kept = [path.name for path in tmp_path.glob("state-set-aside-*/*")]
    assert sorted(kept) == ["iteration-000000020.state", "iteration-000000030.state"]


# --- what is no state at all ---


def signed(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest() + payload


def saved(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class Bomb:
    """Would make a file if it were unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        3,
        {"key": KEY},
        {"key": KEY, "iteration": "30", "content": {}},
        {"key": 1, "iteration": 1, "content": {}},
    ],
)
def test_whole_but_no_state(tmp_path, value):
    """As it was written, so not damaged: nothing is thrown away, the user decides."""
    filled(tmp_path)
    file(tmp_path, 30).write_bytes(signed(saved(value)))
    with pytest.raises(UserError, match=r"iteration-000000030.state is whole but no state .*--restart"):
        StateFolder(tmp_path, KEY).load()
    assert file(tmp_path, 20).exists()
    assert file(tmp_path, 30).exists()


def test_a_state_cannot_run_code(tmp_path):
    folder, harm = tmp_path / "state", tmp_path / "harm"
    filled(folder)
    file(folder, 30).write_bytes(signed(saved({"key": KEY, "iteration": 30, "content": {"step": Bomb(harm)}})))
    with pytest.raises(UserError, match="--restart"):
        StateFolder(folder, KEY).load()
    assert not harm.exists()


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    """A class of its own in the content would be noticed at the first save, not days later at the resume."""
    states = StateFolder(tmp_path, KEY)
    states.acquire()
    with pytest.raises(UserError, match="no state that this version can read"):
        states.save(1, {"version": torch.torch_version.TorchVersion("2.0")})
    states.release()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), sign=st.booleans())
def test_any_bytes(tmp_path_factory, data, sign):
    """Never another exception, and the older generation stays."""
    folder = tmp_path_factory.mktemp("state")
    filled(folder, (10, 20))
    file(folder, 20).write_bytes(signed(data) if sign else data)
    if sign:
        with pytest.raises(UserError) as caught:
            loaded(folder)
        assert "\n" not in str(caught.value)
    else:
        assert loaded(folder)[0] == 10
    assert file(folder, 10).exists()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_archive_with_a_right_digest(tmp_path_factory, data):
    """The reader itself, behind the digest: bytes of the archive, and members of it, changed."""
    parent = tmp_path_factory.mktemp("parent")
    folder = parent / "state"
    filled(folder, (10, 20))
    payload = bytearray(file(folder, 20).read_bytes()[state.DIGEST :])
    for _ in range(data.draw(st.integers(1, 8))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    file(folder, 20).write_bytes(signed(bytes(payload)))
    with contextlib.suppress(UserError):
        StateFolder(folder, KEY).load()
    assert len(list(parent.rglob("iteration-*"))) == 2  # here, or set aside if the key is what was hit


def test_a_state_that_claims_a_huge_tensor(tmp_path):
    """A few bytes of pickle that promise gigabytes."""
    filled(tmp_path)
    payload = file(tmp_path, 30).read_bytes()[state.DIGEST :]
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(payload)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            member = old.read(name)
            if name.endswith("data.pkl"):
                assert b"K2" in member  # the tensor's size, 50
                member = member.replace(b"K2", b"\x8a\x05\x00\x00\x00\x00\x10")
            new.writestr(name, member)
    file(tmp_path, 30).write_bytes(signed(changed.getvalue()))
    with pytest.raises(UserError, match="--restart"):
        StateFolder(tmp_path, KEY).load()


# --- a second process, and what kills leave ---

HOLD = """
import sys
from pathlib import Path
from safmn.training.state import StateFolder
states = StateFolder(Path(sys.argv[1]), "a" * 64)
states.acquire()
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    filled(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        states = StateFolder(tmp_path, KEY)
        with pytest.raises(UserError, match=f"in use by process {holder.pid}"):
            states.acquire()
        holder.kill()  # the system frees the lock of a process that was killed
        holder.wait()
    states.acquire()
    assert states.load()[0] == 30
    states.release()


def test_two_folders_in_one_process(tmp_path):
    one, other = StateFolder(tmp_path, KEY), StateFolder(tmp_path, KEY)
    one.acquire()
    with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
        other.acquire()
    one.release()
    other.acquire()
    other.release()


def test_temporary_files_of_a_kill_are_removed(tmp_path):
    filled(tmp_path)
    stray = tmp_path / ".iteration-000000040.abcd1234.state"
    stray.write_bytes(b"half")
    assert loaded(tmp_path) == (30, [])
    assert not stray.exists()


def test_a_place_that_is_no_folder(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    for folder in (blocked, blocked / "state"):
        with pytest.raises(UserError, match="cannot write"):
            StateFolder(folder, KEY).acquire()
