"""Leases on devices, with made-up device names and real processes."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from filelock import FileLock

from safmn.device import lease
from safmn.errors import UserError


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lease.FOLDER, str(tmp_path / "locks"))
    monkeypatch.delenv(lease.VISIBLE, raising=False)
    monkeypatch.delenv(lease.LEASED, raising=False)


def start(body: str) -> subprocess.Popen:
    """A process that runs `body` within a lease; it says what it got on stdout and ends when told on stdin."""
    code = "import os, sys\nfrom safmn.device import lease\n" + textwrap.dedent(body)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def holder(arguments: str) -> subprocess.Popen:
    return start(
        f"""
        with lease.hold({arguments}):
            print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
            sys.stdin.readline()
        """
    )


def finish(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.communicate("\n", timeout=30)


def test_every_job_gets_a_device_of_its_own() -> None:
    first, second = holder("devices=['0', '1']"), holder("devices=['0', '1']")
    assert sorted([first.stdout.readline().strip(), second.stdout.readline().strip()]) == ["0", "1"]
    with (
        pytest.raises(UserError, match=r"no device came free in 0.3 s \(0, 1;"),
        lease.hold(devices=["0", "1"], timeout=0.3),
    ):
        pass
    finish(first, second)
    with lease.hold(devices=["0", "1"], timeout=0) as device:
        assert device == "0"


def test_a_killed_job_gives_its_device_back() -> None:
    job = holder("devices=['0']")
    assert job.stdout.readline().strip() == "0"
    with pytest.raises(UserError), lease.hold(devices=["0"], timeout=0):
        pass
    os.kill(job.pid, signal.SIGKILL)
    job.wait(timeout=30)
    with lease.hold(devices=["0"], timeout=0) as device:
        assert device == "0"
    finish(job)


def test_a_waiting_job_starts_when_another_is_killed() -> None:
    job = holder("devices=['0']")
    assert job.stdout.readline().strip() == "0"
    waiting = holder("devices=['0']")
    os.kill(job.pid, signal.SIGKILL)
    assert waiting.stdout.readline().strip() == "0"
    finish(job, waiting)


def test_training_jobs_share_a_device_up_to_the_number_that_was_asked_for() -> None:
    jobs = [holder("exclusive=False, jobs_per_device=2, devices=['0']") for _ in range(2)]
    assert [job.stdout.readline().strip() for job in jobs] == ["0", "0"]
    with pytest.raises(UserError), lease.hold(False, 2, ["0"], timeout=0):
        pass
    with pytest.raises(UserError), lease.hold(exclusive=True, devices=["0"], timeout=0):
        pass
    finish(jobs[0])
    with lease.hold(False, 2, ["0"], timeout=0) as device:
        assert device == "0"
    finish(jobs[1])


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_an_exclusive_job_waits_for_the_last_of_those_that_share(first_to_leave: int) -> None:
    jobs = [holder("exclusive=False, jobs_per_device=2, devices=['0']") for _ in range(2)]
    assert [job.stdout.readline().strip() for job in jobs] == ["0", "0"]
    waiting = holder("exclusive=True, devices=['0']")
    assert waiting.stderr.readline().startswith("waiting for a device: 0 in use")
    finish(jobs.pop(first_to_leave))
    with pytest.raises(UserError), lease.hold(exclusive=True, devices=["0"], timeout=0):
        pass
    assert not select.select([waiting.stdout], [], [], 5 * lease.POLL)[0], "it went on beside the other"
    finish(jobs[0])
    assert waiting.stdout.readline().strip() == "0"
    finish(waiting)


def test_an_exclusive_job_that_does_not_wait_is_refused_while_one_of_two_is_left() -> None:
    for leaves in (0, 1):
        jobs = [holder("exclusive=False, jobs_per_device=2, devices=['0']") for _ in range(2)]
        assert [job.stdout.readline().strip() for job in jobs] == ["0", "0"]
        finish(jobs.pop(leaves))
        with pytest.raises(UserError), lease.hold(exclusive=True, devices=["0"], timeout=0):
            pass
        finish(jobs[0])


def test_jobs_that_share_spread_over_the_devices_first() -> None:
    arguments = "exclusive=False, jobs_per_device=2, devices=['0', '1', '2']"
    jobs = [holder(arguments) for _ in range(6)]  # all at once
    got = [job.stdout.readline().strip() for job in jobs]
    assert sorted(got) == ["0", "0", "1", "1", "2", "2"]
    with pytest.raises(UserError), lease.hold(False, 2, ["0", "1", "2"], timeout=0):
        pass
    on_1 = [job for job, device in zip(jobs, got, strict=True) if device == "1"]
    finish(*on_1)
    with lease.hold(False, 2, ["0", "1", "2"], timeout=0) as device:
        assert device == "1"  # the empty one
    finish(*(job for job in jobs if job not in on_1))


def test_one_after_the_other_they_take_the_device_with_the_fewest() -> None:
    arguments = "exclusive=False, jobs_per_device=16, devices=['0', '1']"
    jobs = []
    for expected in ("0", "1", "0", "1"):
        jobs.append(holder(arguments))
        assert jobs[-1].stdout.readline().strip() == expected
    finish(jobs[0], jobs[2])
    jobs.append(holder(arguments))
    assert jobs[-1].stdout.readline().strip() == "0"
    finish(jobs[1], jobs[3], jobs[4])


def test_jobs_choose_one_after_the_other() -> None:
    # Two that look at the same time would both see an empty first device.
    with FileLock(lease.folder() / "choice.lock"):
        job = holder("exclusive=False, jobs_per_device=2, devices=['0']")
        assert not select.select([job.stdout], [], [], 5 * lease.POLL)[0]
    assert job.stdout.readline().strip() == "0"
    finish(job)


def test_a_timing_job_holds_its_device_alone() -> None:
    job = holder("exclusive=True, devices=['0']")
    assert job.stdout.readline().strip() == "0"
    with pytest.raises(UserError), lease.hold(False, 16, ["0"], timeout=0):
        pass
    with lease.hold(False, 16, ["0", "1"], timeout=0) as device:
        assert device == "1"
    finish(job)


def test_one_job_a_device_is_alone_even_beside_jobs_that_would_share() -> None:
    job = holder("exclusive=False, jobs_per_device=1, devices=['0']")
    assert job.stdout.readline().strip() == "0"
    with pytest.raises(UserError), lease.hold(False, 2, ["0"], timeout=0):
        pass
    finish(job)


def test_a_waiting_timing_job_is_not_overtaken_by_new_training_jobs() -> None:
    training = holder("exclusive=False, jobs_per_device=2, devices=['0']")
    assert training.stdout.readline().strip() == "0"
    timing = holder("exclusive=True, devices=['0']")
    assert timing.stderr.readline().startswith("waiting for a device: 0 in use")
    with pytest.raises(UserError), lease.hold(False, 2, ["0"], timeout=0):
        pass
    finish(training)
    assert timing.stdout.readline().strip() == "0"
    finish(timing)
    with lease.hold(False, 2, ["0"], timeout=0) as device:
        assert device == "0"


def test_an_exclusive_job_that_gave_up_leaves_the_gate_open() -> None:
    training = holder("exclusive=False, jobs_per_device=2, devices=['0']")
    assert training.stdout.readline().strip() == "0"
    with pytest.raises(UserError), lease.hold(devices=["0"], timeout=0):
        pass
    with lease.hold(False, 2, ["0"], timeout=0) as device:
        assert device == "0"
    finish(training)


def test_the_device_is_the_only_visible_one_and_the_environment_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_installed", lambda: {"0": "GPU-aa", "1": "GPU-bb", "2": "GPU-cc"})
    monkeypatch.setenv(lease.VISIBLE, "2,1")
    with lease.hold(timeout=0) as device:
        assert device == os.environ[lease.VISIBLE] == "2"
        # A child process and a nested lease see the same device and do not wait for themselves.
        with lease.hold(timeout=0) as nested:
            assert nested == "2"
    assert os.environ[lease.VISIBLE] == "2,1"
    assert lease.LEASED not in os.environ


def test_a_child_of_the_holder_inherits_its_device() -> None:
    with lease.hold(devices=["0"], timeout=0):
        child = holder("timeout=0")
        assert child.stdout.readline().strip() == "0"
        finish(child)


def test_an_index_and_a_uuid_of_the_same_card_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_installed", lambda: {"0": "GPU-aa", "1": "GPU-bb"})
    job = holder("devices=['GPU-bb']")
    assert job.stdout.readline().strip() == "GPU-bb"
    monkeypatch.setenv(lease.VISIBLE, "1")
    with pytest.raises(UserError), lease.hold(timeout=0):
        pass
    finish(job)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        (None, {"GPU-aa": "GPU-aa", "GPU-bb": "GPU-bb"}),
        ("1", {"1": "GPU-bb"}),
        ("GPU-bb,0", {"GPU-bb": "GPU-bb", "0": "GPU-aa"}),
        ("MIG-x", {"MIG-x": "MIG-x"}),
        ("", {}),
        ("-1", {}),
        ("0,-1,1", {"0": "GPU-aa"}),
        ("0,7,1", {"0": "GPU-aa"}),
    ],
)
def test_a_preset_choice_of_devices_is_respected(
    preset: str | None, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_installed", lambda: {"0": "GPU-aa", "1": "GPU-bb"})
    if preset is not None:
        monkeypatch.setenv(lease.VISIBLE, preset)
    assert lease.visible_devices() == expected


def test_without_a_device_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_installed", dict)
    with lease.hold() as device:
        assert device is None
    assert lease.VISIBLE not in os.environ


def test_nonsense_is_refused() -> None:
    with pytest.raises(UserError, match="give 1 to 16"), lease.hold(jobs_per_device=0):
        pass


def test_a_lock_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(lease.FOLDER, str(tmp_path / "file" / "locks"))
    with pytest.raises(UserError, match="set SAFMN_LEASE_DIR"), lease.hold(devices=["0"]):
        pass
