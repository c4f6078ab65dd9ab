"""Every command that the README shows is run; what would take minutes, as a dry run, which parses and plans it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from safmn.data import images
from tests.workflow.conftest import PATIENCE, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    found = [line.split("  #")[0].strip() for line in lines]
    return [line for line in found if line and not line.startswith(". ")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with what the README's commands name: a checkout, a dataset, a picture."""
    folder = tmp_path_factory.mktemp("readme")
    for name in (
        "config",
        "ablations",
        "workflow",
        "profiles",
        "Snakefile",
        "Makefile",
        "pyproject.toml",
        "constraints.txt",
    ):
        (folder / name).symlink_to(ROOT / name)
    random = np.random.default_rng(0)
    for dataset in ("Set5", "Set14", "B100", "T91", "BSDS200"):
        for name in ("baby", "bird") if dataset == "Set5" else range(12 if dataset == "BSDS200" else 2):
            picture = random.integers(0, 256, (128, 112, 3), dtype=np.uint8)
            images.write(folder / f"datasets/{dataset}/HR/{name}.png", picture)
    images.write(folder / "picture.png", random.integers(0, 256, (24, 16, 3), dtype=np.uint8))
    return folder


def test_the_readme_shows_commands():
    assert {"make tables", "make test"} <= set(commands())
    assert len(commands()) >= 12


def test_the_readmes_commands_run_in_its_order(place):
    for command in commands():
        words = shlex.split(command.replace("/path/to/datasets", "datasets").replace("/path/to/Set5", "datasets/Set5"))
        if words[:2] == ["safmn", "archive"]:
            continue  # needs a study's results: tests/test_archive.py
        if words[0] == "make":
            words.insert(1, "--dry-run")
        elif words[0] == "snakemake" and "--list" not in words:
            if "--report" in words:
                continue  # needs a finished study: tests/workflow/test_whole.py
            words = [*words, "--dry-run", *([] if "--cores" in words else ["--cores", "1"])]
        if words[0] in ("snakemake", "safmn"):
            words = [sys.executable, "-m", *words]
        told = subprocess.run(
            words,
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert told.returncode == 0, f"{command}\n{told.stdout[-2000:]}{told.stderr[-2000:]}"
    assert images.read(place / "larger.png").shape == (96, 64, 3)
    assert (place / "results/mini/tables/table3.md").exists()


def test_the_files_that_the_readme_names_exist():
    for target in re.findall(r"\]\(([^)h#][^)]*)\)", README):
        assert (ROOT / target).exists(), target
