"""Leases on devices, with made-up device names and real processes."""

import os
import select
import signal
import subprocess
import sys
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
    monkeypatch.delenv(lease.ORDER, raising=False)


def start(arguments: str) -> subprocess.Popen:
    """A process that takes a lease; it says what it got on stdout, and ends when it is told to on stdin."""
    code = f"""
import os, sys
from safmn.device import lease
with lease.hold({arguments}):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
"""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def holder(arguments: str, device: str | None = None) -> subprocess.Popen:
    """As `start`, once it has a device."""
    job = start(arguments)
    assert device in (None, got(job))
    return job


def got(job: subprocess.Popen) -> str:
    return job.stdout.readline().strip()


def finish(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.communicate("\n", timeout=30)


def taken(*arguments: object, **named: object) -> str | None:
    """The device that this process gets at once, and gives back."""
    with lease.hold(*arguments, **named, timeout=0) as device:
        return device


def test_an_index_means_the_card_that_nvidia_smi_means() -> None:
    with lease.hold(devices=["0"], timeout=0):
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert lease.VISIBLE not in os.environ
    assert "CUDA_DEVICE_ORDER" not in os.environ


def is_refused(*arguments: object, **named: object) -> bool:
    with pytest.raises(UserError, match="no device came free"):
        taken(*arguments, **named)
    return True


SHARED = "exclusive=False, jobs_per_device=2, devices=['0']"


def test_every_job_gets_a_device_of_its_own() -> None:
    jobs = [start("devices=['0', '1']") for _ in range(2)]
    assert sorted(map(got, jobs)) == ["0", "1"]
    with (
        pytest.raises(UserError, match=r"no device came free in 0.3 s \(0, 1;"),
        lease.hold(True, 1, "01", timeout=0.3),
    ):
        pass
    finish(*jobs)
    assert taken(devices=["0", "1"]) == "0"


def test_a_killed_job_gives_its_device_back_to_whoever_waits() -> None:
    job = holder("devices=['0']", "0")
    assert is_refused(devices=["0"])
    waiting = start("devices=['0']")
    os.kill(job.pid, signal.SIGKILL)
    assert got(waiting) == "0"
    finish(job, waiting)


def test_training_jobs_share_a_device_up_to_the_number_that_was_asked_for() -> None:
    jobs = [holder(SHARED, "0") for _ in range(2)]
    assert is_refused(False, 2, ["0"])
    assert is_refused(exclusive=True, devices=["0"])
    finish(jobs[0])
    assert taken(False, 2, ["0"]) == "0"
    finish(jobs[1])


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_an_exclusive_job_waits_for_the_last_of_those_that_share(first_to_leave: int) -> None:
    jobs = [holder(SHARED, "0") for _ in range(2)]
    waiting = start("exclusive=True, devices=['0']")
    assert waiting.stderr.readline().startswith("waiting for a device: 0 in use")
    finish(jobs.pop(first_to_leave))
    assert is_refused(exclusive=True, devices=["0"])
    assert not select.select([waiting.stdout], [], [], 5 * lease.POLL)[0], "it went on beside the other"
    assert is_refused(False, 2, ["0"])  # new training jobs do not overtake it
    finish(jobs[0])
    assert got(waiting) == "0"
    finish(waiting)
    assert taken(False, 2, ["0"]) == "0"


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_an_exclusive_job_that_does_not_wait_is_refused_while_one_of_two_is_left(first_to_leave: int) -> None:
    jobs = [holder(SHARED, "0") for _ in range(2)]
    finish(jobs.pop(first_to_leave))
    assert is_refused(exclusive=True, devices=["0"])
    assert taken(False, 2, ["0"]) == "0"  # it gave up, and left the gate open
    finish(jobs[0])


def test_jobs_that_share_spread_over_the_devices_first() -> None:
    arguments = "exclusive=False, jobs_per_device=2, devices=['0', '1', '2']"
    jobs = [start(arguments) for _ in range(6)]  # all at once
    devices = [got(job) for job in jobs]
    assert sorted(devices) == ["0", "0", "1", "1", "2", "2"]
    assert is_refused(False, 2, ["0", "1", "2"])
    on_1 = [job for job, device in zip(jobs, devices, strict=True) if device == "1"]
    finish(*on_1)
    assert taken(False, 2, ["0", "1", "2"]) == "1"  # the empty one
    finish(*(job for job in jobs if job not in on_1))


def test_one_after_the_other_they_take_the_device_with_the_fewest() -> None:
    arguments = "exclusive=False, jobs_per_device=16, devices=['0', '1']"
    jobs = [holder(arguments, expected) for expected in ("0", "1", "0", "1")]
    finish(jobs[0], jobs[2])
    jobs.append(holder(arguments, "0"))
    finish(jobs[1], jobs[3], jobs[4])


def test_jobs_choose_one_after_the_other() -> None:
    # Two that look at the same time would both see an empty first device.
    with FileLock(lease.folder() / "choice.lock"):
        job = start(SHARED)
        assert not select.select([job.stdout], [], [], 5 * lease.POLL)[0]
    assert got(job) == "0"
    finish(job)


@pytest.mark.parametrize("alone", ["exclusive=True", "exclusive=False, jobs_per_device=1"])
def test_a_job_that_is_alone_shares_with_none(alone: str) -> None:
    job = holder(f"{alone}, devices=['0']", "0")
    assert is_refused(False, 16, ["0"])
    assert taken(False, 16, ["0", "1"]) == "1"
    finish(job)


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
        finish(holder("timeout=0", "0"))


def test_an_index_and_a_uuid_of_the_same_card_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_installed", lambda: {"0": "GPU-aa", "1": "GPU-bb"})
    job = holder("devices=['GPU-bb']", "GPU-bb")
    monkeypatch.setenv(lease.VISIBLE, "1")
    assert is_refused()
    finish(job)


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
