"""A study on a real SLURM, with jobs cancelled, a time limit met and a node lost under it."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.workflow.conftest import MICRO, PATIENCE, ROOT
from tests.workflow.slurm_cluster import CARDS, Cluster, Process, unavailable

pytestmark = pytest.mark.slurm

VARIANTS = ("safmn", "no_fm")
KEPT = ("best.safetensors", "last.safetensors", "last_raw.safetensors", "history.csv")
TRAINING = MICRO["training"] | {"iterations": 400, "validate_every": 100}
# The plugin asks how jobs are at growing intervals, up to minutes. Here each second.
SUBMIT = """
import sys
import snakemake_executor_plugin_slurm as plugin
from snakemake.cli import main
plugin.Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, value: None)
main()
"""
LIMIT = PATIENCE  # seconds that anything may take


@pytest.fixture(scope="module")
def cluster():
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    # Not pytest's folder: its name is too long for a socket's.
    folder = Path("/tmp") / f"safmn-slurm-{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        with Cluster(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def submit(cluster: Cluster, folder: Path, *arguments: str | Path) -> list[str]:
    """The command that runs the project's workflow in `folder` by the cluster's profile."""
    command = [sys.executable, "-c", SUBMIT, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--workflow-profile", ROOT / "profiles/slurm", "--latency-wait", "5"]
    return cluster.command(*command, *arguments, cwd=ROOT)


def trainer(cluster: Cluster, folder: Path, variant: str) -> Process | None:
    """The process that trains a variant."""
    for process in cluster.processes():
        if process.words[1:5] == ["-m", "safmn", "train", variant] and process.cwd() == folder:
            return process
    return None


Found = TypeVar("Found")


def until(what: str, found: Callable[[], Found]) -> Found:
    """Waits until `found` returns something."""
    deadline = time.monotonic() + LIMIT
    while True:
        value = found()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


class Run:
    """One variant's training in a study's folder."""

    def __init__(self, cluster: Cluster, folder: Path, variant: str) -> None:
        self.cluster, self.study, self.variant = cluster, folder, variant
        self.folder = folder / f"results/micro/training/{variant}/x4_seed0"

    def hold(self, before: Process | None = None) -> Process:
        """Waits for a process other than `before` that has saved a state of its own, and stops its clock."""
        process = until(f"a job that trains {self.variant}", lambda: self.other(before))
        known = self.states()
        until(f"a state of {self.variant}", lambda: self.states() > known or not self.alive(process))
        os.kill(process.pid, signal.SIGSTOP)
        assert not (self.folder / "run.json").exists(), "it ended before it could be held"
        return process

    def other(self, before: Process | None) -> Process | None:
        process = trainer(self.cluster, self.study, self.variant)
        return process if process and (before is None or process.pid != before.pid) else None

    def states(self) -> int:
        """The iteration of the newest state."""
        return max(
            (int(file.stem.partition("-")[2]) for file in self.folder.glob("state/iteration-*.state")), default=0
        )

    def alive(self, process: Process) -> bool:
        return process.folder.exists()

    def contents(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in KEPT}


@pytest.mark.parametrize(
    "targets", [[f"train_{name}" for name in VARIANTS], pytest.param(["all"], marks=pytest.mark.slow)], ids="-".join
)
def test_jobs_and_a_node_are_lost_and_all_ends_as_on_a_quiet_machine(cluster, micro, snakemake, tmp_path, targets):
    study = micro(networks=[], training=TRAINING, run={"log_every": 50, "save_every": 0.2})
    told = snakemake(*targets, "--configfile", study)
    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-3000:]
    quiet = tmp_path / "results/micro"
    # Costs are taken from there: measured twice, times would differ. All the rest is made by the cluster's jobs.
    folder = tmp_path / "cluster"
    results = folder / "results/micro"
    if (quiet / "cost").exists():
        shutil.copytree(quiet / "cost", results / "cost")
    shutil.copytree(tmp_path / ".snakemake/metadata", folder / ".snakemake/metadata")
    runs = [Run(cluster, folder, variant) for variant in VARIANTS]

    log = tmp_path / "snakemake.log"
    with running(submit(cluster, folder, *targets, "--configfile", study), cluster, log) as process:
        disturb(cluster, *runs)
        process.wait(timeout=LIMIT)
    said = log.read_text()
    assert process.returncode == 0, said[-6000:] + cluster.logs()

    for run in runs:
        straight = quiet / run.folder.relative_to(results)
        assert run.contents() == {name: (straight / name).read_bytes() for name in KEPT}
        # Each job went on where the one before it had stopped.
        sessions = json.loads((run.folder / "run.json").read_text())["sessions"]
        assert [each["from"] for each in sessions] == [0, *(each["to"] for each in sessions[:-1])]
        assert sessions[-1]["to"] == TRAINING["iterations"]
        assert len(sessions) >= {"safmn": 2, "no_fm": 3}[run.variant]
    if targets == ["all"]:
        assert (results / "cells.csv").read_bytes() == (quiet / "cells.csv").read_bytes()
        for table in (quiet / "tables").iterdir():
            assert (results / "tables" / table.name).read_bytes() == table.read_bytes()
    # Two retries, of the job that met its limit and of the one that was cancelled; the crash was SLURM's to mend.
    assert said.count("Trying to restart job") == 2, said


def disturb(cluster: Cluster, safmn: Run, no_fm: Run) -> None:
    """One run meets its time limit; the other is cancelled, and then its node crashes."""
    limited, cancelled = safmn.hold(), no_fm.hold()
    # Each job holds the device that SLURM gave it, and no other.
    presets = [process.environment["CUDA_VISIBLE_DEVICES"] for process in (limited, cancelled)]
    assert sorted(presets) == sorted(CARDS)
    assert [leased(cluster, process) for process in (limited, cancelled)] == [{CARDS[preset]} for preset in presets]

    cluster.run("scancel", cancelled.job)
    # Near enough for the signal, which the profile orders 180 s before the end; SLURM looks for that twice a minute,
    # and wakes what it signals.
    cluster.shorten(limited.job)
    lost = no_fm.hold(before=cancelled)
    ended = until("the end of a job near its limit", lambda: {"FAILED", "TIMEOUT"} & {cluster.job_state(limited.job)})
    assert ended == {"FAILED"}  # it ended by itself; TIMEOUT would be SLURM's doing
    assert cluster.job_state(cancelled.job) == "CANCELLED"

    cluster.crash_node()
    assert cluster.job_state(lost.job) == "PENDING"
    again = until("the job that was requeued", lambda: no_fm.other(lost))
    assert again.job == lost.job


def leased(cluster: Cluster, process: Process) -> set[str]:
    """The cards whose locks a process has open."""
    locks = (file for file in process.open_files() if file.parent == cluster.folder / "lease")
    return {file.name.partition(".")[0] for file in locks}


@contextlib.contextmanager
def running(command: list[str], cluster: Cluster, log: Path) -> Iterator[subprocess.Popen]:
    """A process whose output goes to a file, and which does not outlive the block."""
    environment = cluster.environment()
    with open(log, "w") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            yield process
        except BaseException:
            print(log.read_text()[-6000:], cluster.logs())
            raise
        finally:
            process.kill()


@pytest.mark.slow
def test_real_images_a_few_iterations(cluster, datasets, tmp_path):
    """`t291`, as `.ci/run` does it on one machine."""
    log = tmp_path / "snakemake.log"
    overrides = [f"data_root={datasets}", "name=t291-slurm", "iterations=2", "batch=4", "variants=safmn,no_fm"]
    overrides += ["extra_seeds=none", "networks=bicubic", "images=1", "rounds=1", "processes=1"]
    command = submit(cluster, tmp_path, "--configfile", ROOT / "config/t291.yaml", "--config", *overrides)
    with running(command, cluster, log) as process:
        process.wait(timeout=LIMIT)
    print(log.read_text())
    assert process.returncode == 0, log.read_text()[-6000:] + cluster.logs()
    with open(tmp_path / "results/t291-slurm/cells.csv", encoding="utf-8", newline="") as handle:
        cells = {(cell["table"], cell["row"], cell["column"]): cell for cell in csv.DictReader(handle)}
    # What needs no training is as it is everywhere.
    assert float(cells["3", "safmn", "params"]["measured"]) == pytest.approx(239.52)
    assert cells["3", "no_fm", "set5_psnr"]["measured"]
