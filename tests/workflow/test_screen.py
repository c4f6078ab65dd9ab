"""What Snakemake prints about a study that is stopped, fails or is refused; `test_whole.py` has one that ends well."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from safmn import layout
from safmn.planning.screen import Screen
from safmn.planning.wallclock import spoken
from safmn.study import Study
from tests.workflow.conftest import MICRO, ROOT, wait_for

DATA = MICRO["data"]


def lines(told):
    """The lines on the screen, without empty ones."""
    return [line for line in (told.stdout + told.stderr).splitlines() if line.strip()]


def test_a_failed_job_is_named_with_its_reason_as_the_last_lines(micro, snakemake, tmp_path):
    (tmp_path / "sets/mine/HR").mkdir(parents=True)
    (tmp_path / "sets/mine/HR/torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    file = micro(data=DATA | {"root": str(tmp_path / "sets"), "test": ["mine"]}, variants=["safmn"])
    told = snakemake("results/micro/data/mine/x4/index.json", "--configfile", file)
    assert told.returncode == 1
    *_, failed, rest = lines(told)
    assert failed.startswith("micro: failed: pack mine_x4: ")
    assert "torn.png" in failed
    assert rest == "What was finished is kept; the same command does the rest."


def test_one_line_of_progress(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study.from_content(MICRO | {"seeds": [0, 1, 2]}, "")
    screen = Screen(study)
    screen._runs = study.runs()
    screen._began, screen._first = time.monotonic() - 60, 0
    monkeypatch.setattr(time, "monotonic", lambda: screen._began + 60)
    first, second, *_ = (study.results / layout.run(run.variant, run.scale, run.seed) for run in screen._runs)
    total = study.training.iterations
    assert screen.progress() == f"micro: 0 of {len(screen._runs)} runs trained"
    (second / layout.STATE).mkdir(parents=True)
    (second / layout.STATE / "iteration-000000001.state").touch()
    first.mkdir(parents=True)
    (first / layout.RUN).touch()
    names = [run.folder for run in screen._runs]
    told = screen.progress()
    left = 60 * (len(names) * total - total - 1) / (total + 1)  # seconds, at the rate of the first minute
    assert told.startswith(f"micro: 1 of {len(names)} runs trained; under way {names[1]} 1/{total}; about ")
    assert told.endswith(f"about {spoken(left)} of training left")
    os.utime(first / layout.RUN, (1, 1))  # of an earlier Snakemake: it is trained again
    assert screen.progress().startswith(f"micro: 0 of {len(names)} runs trained; under way {names[1]} 1/{total}; ")


@pytest.mark.parametrize("times", [1, 2])
def test_after_ctrl_c_the_last_line_says_where_it_was_saved(micro, tmp_path, times):
    long = {"iterations": 400, "validate_every": 400, "batch": 4, "patch": 32}  # too few for an estimate before
    file = micro(training=MICRO["training"] | long, run={"save_every": 0.2})
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path]
    running = subprocess.Popen(
        [*command, "--cores", "1", "train_safmn", "--configfile", file],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    states = tmp_path / "results/micro/training/safmn/x4_seed0/state"
    wait_for(lambda: list(states.glob("iteration-*.state")), running)
    for _ in range(times):
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    text, _ = running.communicate()
    assert running.returncode not in (0, None)
    last = [line for line in text.splitlines() if line.strip()][-1]
    assert re.fullmatch(r"micro: stopped; saved safmn/x4_seed0 at iteration [\d,]+; the same command resumes", last)
    assert "Traceback" not in text
    assert not any(line.startswith("| ") for line in text.splitlines())  # no table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train_no_mf"], "there is no target train_no_mf: did you mean train_no_fm"),
        (["train_imdn"], "there is no target train_imdn: to train imdn here, name it in the study's `retrain`"),
        (["--config", "iteration=3"], "--config: iteration: is not a known key; did you mean iterations"),
        (["--config", "iterations=few"], "--config: iterations: should be a valid integer, not 'few'"),
        (
            ["--config", "variants=no_mf"],
            "--config: variants: 'no_mf' is not a known variant; did you mean no_mr, no_fm",
        ),
        (["--config", "data_root=/no/where"], "micro.yaml: data.root: /no/where is not a folder; it should hold mine"),
        (["--config", "weights_root=/no/where"], "micro.yaml: weights.root: /no/where is not a folder"),
    ],
)
def test_a_mistake_ends_the_command_before_any_job(micro, snakemake, tmp_path, arguments, message):
    (tmp_path / "sets/mine/HR").mkdir(parents=True)
    (tmp_path / "sets/mine/HR/torn.png").write_bytes(b"not looked at")
    file = micro(data=DATA | {"root": str(tmp_path / "sets"), "test": ["mine"]})
    told = snakemake(*arguments, "--configfile", file)
    assert told.returncode == 1
    assert any(message in line for line in lines(told)), told.stdout + told.stderr
    assert not (tmp_path / "results").exists()


def test_the_default_study_takes_another_name(snakemake):
    told = snakemake("-n", "train_no_fm", "--quiet", "host", "--config", "name=other")  # the profile hides the reasons
    assert told.returncode == 0, told.stdout + told.stderr
    assert "results/other/training/no_fm/x4_seed0/best.safetensors" in told.stdout
