"""A study that is stopped and started again ends with the same bytes as one that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import small_study
from tests.workflow.conftest import MICRO, ROOT, start, wait_for

TRAINING = MICRO["training"] | {"iterations": 150, "validate_every": 75}
KEPT = ("best.safetensors", "last.safetensors", "last_raw.safetensors", "history.csv")


@pytest.fixture
def study(micro):
    return micro(training=TRAINING, run={"log_every": 50, "save_every": 0.2})


@pytest.fixture
def straight(study, tmp_path_factory) -> dict[str, bytes]:
    """The files of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("straight")
    command = ["train", "safmn", "--study", study, "--scale", "4", "--out", out / "run", "--packs", out / "packs"]
    small_study.safmn(*command)
    return {name: (out / "run" / name).read_bytes() for name in KEPT}


def kept(tmp_path: Path) -> dict[str, bytes]:
    folder = tmp_path / "results/micro/training/safmn/x4_seed0"
    return {name: (folder / name).read_bytes() for name in KEPT}


def test_a_killed_snakemake_goes_on_and_ends_with_the_same_bytes(study, straight, snakemake, tmp_path):
    running = start(tmp_path, "train_safmn", "--configfile", study)
    states = tmp_path / "results/micro/training/safmn/x4_seed0/state"
    wait_for(lambda: list(states.glob("iteration-*.state")), running)
    os.killpg(running.pid, signal.SIGSTOP)  # alive, for as long as it takes to start another beside it
    beside = snakemake("train_safmn", "--configfile", study)
    assert beside.returncode != 0
    assert "no other Snakemake process" in beside.stdout + beside.stderr
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (states.parent / "best.safetensors").exists()
    snakemake("--unlock", "--configfile", study)
    told = snakemake("train_safmn", "--configfile", study)
    assert told.returncode == 0, told.stdout + told.stderr
    log = (tmp_path / "results/micro/logs/train/safmn_x4_seed0.log").read_text()
    assert "resuming from iteration" in log
    assert kept(tmp_path) == straight


@pytest.mark.slow
def test_a_study_in_pieces_ends_with_the_same_bytes(study, straight, tmp_path):
    """The first piece is too short for the study on any machine; the later ones grow, so that a slow machine ends."""
    arguments = ["--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    arguments += ["--cores", "1", "--configfile", study]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    pieces = 0
    while pieces < 20:
        minutes = 0.1 * 1.3**pieces
        pieces += 1
        command = [ROOT / "scripts/in_pieces", f"{minutes:.2f}", *arguments]
        told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if told.returncode == 0:
            break
        assert told.returncode == 75, told.stdout + told.stderr
    assert pieces > 1
    assert kept(tmp_path) == straight
    assert (tmp_path / "results/micro/finished").exists()
