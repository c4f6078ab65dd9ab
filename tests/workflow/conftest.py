"""A study small enough that the whole DAG runs in seconds, and a way to run it in a folder of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.forks import PATIENCE, Forks

ROOT = Path(__file__).resolve().parents[2]

MICRO: dict[str, Any] = {
    "name": "micro",
    "description": "A few iterations, to see that everything is connected",
    "scales": [4],
    "seeds": [0],
    "variants": ["safmn", "no_fm"],
    "networks": ["bicubic"],
    "data": {
        "train": ["photographs[4:]"],
        "validation": ["photographs[:1]"],
        "test": ["photographs[1:2]"],
    },
    "training": {"iterations": 4, "batch": 1, "patch": 16, "validate_every": 4, "ema": 0.5},
    "run": {"log_every": 2},
    "efficiency": {"images": 1, "rounds": 1, "processes": 1},
    "figures": {"steps": 2, "crop": 48, "patch": 24},
}


@pytest.fixture
def micro(tmp_path: Path) -> Callable[..., Path]:
    """Writes the micro study, with changes, to tmp_path and returns its file."""

    def write(**changes: Any) -> Path:
        file = tmp_path / "micro.yaml"
        file.write_text(yaml.safe_dump(MICRO | changes))
        return file

    return write


def start(folder: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """Snakemake on one core in a process group of its own, which goes on until it is killed; results in `folder`."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    return subprocess.Popen(
        [*command, "--cores", "1", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for(there: Callable[[], object], running: subprocess.Popen[bytes]) -> None:
    """Until something is there that can only be seen while a process runs."""
    deadline = time.monotonic() + PATIENCE
    while not there():
        assert running.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs Snakemake without importing it anew; its jobs are processes as always."""
    modules = ("snakemake.cli", "safmn.planning.jobs", "safmn.planning.preflight", "safmn.planning.screen")
    forks = Forks(ROOT, tmp_path_factory.mktemp("forks"), *modules)
    yield forks
    forks.close()


@pytest.fixture
def snakemake(tmp_path: Path, forks: Forks) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Snakemake on the project's Snakefile, with tmp_path as the folder where results go."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
        cores = [] if "--report" in arguments else ["--cores", "2"]
        return forks.run([*command, *cores, *arguments], ROOT, **environment)

    return run
