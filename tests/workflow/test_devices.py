"""How many jobs run at once on a machine with GPUs: as many as devices, or as training jobs may share them."""

import os
import re
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT


@pytest.fixture
def cards(tmp_path):
    """Lets the workflow see so many GPUs; returns the environment for it."""

    def see(count: int) -> dict[str, str]:
        smi = tmp_path / "bin/nvidia-smi"
        smi.parent.mkdir(exist_ok=True)
        lines = "".join(f"{index}, GPU-fake-{index}\\n" for index in range(count))
        smi.write_text(f"#!/bin/sh\ncase $1 in --query-gpu=index,uuid) printf '{lines}' ;; *) exit 1 ;; esac\n")
        smi.chmod(0o755)
        return {"PATH": f"{smi.parent}:{os.environ['PATH']}", "SAFMN_LEASE_DIR": str(tmp_path / "lease")}

    return see


def started_together(told: str) -> int:
    """Training jobs that had been started when the first one ended; without a GPU, with an error."""
    before = re.split(r"\(Rule: train\)|Error in rule train", told)[0]
    return len(re.findall(r"^Job \d+: Train ", before, re.MULTILINE))


def test_training_jobs_share_a_device_where_the_study_says_so(snakemake, micro, cards):
    variants = ["safmn", "no_fm", "no_fa"]
    study = micro(variants=variants, run={"jobs_per_device": 2})
    told = snakemake(*(f"train_{name}" for name in variants), "--configfile", study, "--cores", "4", **cards(1))
    said = told.stdout + told.stderr
    assert started_together(said) == 2, said
    written = [log.read_text() for log in logs(study)]
    assert len(written) >= 2
    assert "waiting for a device" not in "".join(written)
    # The cards are made up: a job that gets one must not compute on the CPU instead.
    assert told.returncode != 0
    assert all("cannot use it" in text for text in written), written


def test_every_device_is_used(snakemake, micro, cards):
    study = micro(run={"jobs_per_device": 3})
    told = snakemake("--configfile", study, "--until", "pack", **cards(2))
    assert re.search(r"Provided resources: gpu_share=\D*6\b", told.stdout + told.stderr), told.stdout + told.stderr


TIMES = {"runtime", "operations"}


@pytest.mark.parametrize(
    ("devices", "config", "timed"), [(0, [], set()), (0, ["--config", "cpu=true"], TIMES), (1, [], TIMES)]
)
def test_mini_is_timed_on_a_gpu_or_if_asked_to_time_a_cpu(snakemake, cards, devices, config, timed):
    told = snakemake("--dry-run", "--quiet", "rules", *config, **cards(devices))
    assert told.returncode == 0, told.stderr
    jobs = set(re.findall(r"^(\w+) +\d+$", told.stdout, re.MULTILINE))
    assert jobs & {"memory", *TIMES} == {"memory", *timed}


def logs(study: Path) -> list[Path]:
    return list((study.parent / "results/micro/logs/train").glob("*.log"))


def test_what_takes_a_device_here_asks_for_one_on_a_cluster():
    rules = "".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    takers = {
        rule.partition(":")[0] for rule in re.split(r"^rule ", rules, flags=re.MULTILINE)[1:] if "gpu_share=" in rule
    }
    asked = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())["set-resources"]
    assert takers == {rule for rule, needs in asked.items() if needs.get("gpu") == 1}
