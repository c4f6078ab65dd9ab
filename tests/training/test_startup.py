"""A run that is told to stop while it starts: it says so with the same exit status as one that trains."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .workshop import PATIENCE, ROOT, until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="/proc tells when a process handles a signal"
)


def listens(process: subprocess.Popen, number: int) -> bool:
    """Whether the process has a handler of its own for a signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


# Says of each handler for SIGUSR1 whether torch was there before it.
SPY = """
import signal, sys
original = signal.signal
def spy(number, handler):
    if number == signal.SIGUSR1:
        print("torch" in sys.modules, flush=True)
    return original(number, handler)
signal.signal = spy
from safmn.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_it_listens_before_torch_is_there(workshop, tmp_path):
    study = workshop.study(tmp_path / "study.yaml", iterations=2, validate_every=2)
    told = subprocess.run(
        [sys.executable, "-c", SPY, *workshop.arguments(tmp_path / "run", study=study)],
        env=os.environ | {"SAFMN_ABLATIONS": str(workshop.variants), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    # Before torch; then while it trains; and back again, twice.
    assert told.stdout.splitlines()[:2] == ["False", "True"]


@pytest.mark.parametrize(
    ("number", "status", "wait"),
    [(signal.SIGUSR1, 75, 0), (signal.SIGUSR1, 75, 1.5), (signal.SIGTERM, 143, 0), (signal.SIGTERM, 143, 0.4)],
    ids=str,
)
def test_told_to_stop_while_it_starts(workshop, tmp_path, number, status, wait):
    """From the moment that it listens, which is before torch is there; later ones may find it training already."""
    study = workshop.study(tmp_path / "study.yaml", iterations=100_000, run={"save_every": 1000})
    out = tmp_path / "run"
    with workshop.command(*workshop.arguments(out, study=study)) as process:
        try:
            until(lambda: listens(process, signal.SIGUSR1), lambda: process.poll() is None)
            time.sleep(wait)  # to wherever it is by then
            process.send_signal(number)
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert not (out / "failure.txt").exists()
    assert not (out / "best.safetensors").exists()
