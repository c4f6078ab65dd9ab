"""A run that is told to stop while it starts: it says so with the same exit status as one that trains."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="/proc tells when a process handles a signal"
)


def listens(process: subprocess.Popen, number: int) -> bool:
    """Whether the process has a handler of its own for a signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def has_torch(process: subprocess.Popen) -> bool:
    return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 143)], ids=["USR1", "TERM"])
@pytest.mark.parametrize("wait", [0, 0.4, 1.5])
def test_told_to_stop_while_it_starts(workshop, tmp_path, number, status, wait):
    """From the moment that it listens, which is before torch is there; later ones may find it training already."""
    study = workshop.study(tmp_path / "study.yaml", iterations=100_000, run={"save_every": 1000})
    out = tmp_path / "run"
    with workshop.command(*workshop.arguments(out, study=study)) as process:
        try:
            deadline = time.monotonic() + 60
            while not listens(process, signal.SIGUSR1):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.001)
            if wait == 0:
                assert not has_torch(process), "the handlers came after torch"
            time.sleep(wait)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert not (out / "failure.txt").exists()
    assert not (out / "best.safetensors").exists()
