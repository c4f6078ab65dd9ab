"""The container recipe fits the package, and Snakemake runs jobs in its image; a stand-in takes Apptainer's place."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.package.conftest import BUILT_FROM
from tests.workflow.conftest import ROOT

RECIPE = (ROOT / "container.def").read_text(encoding="utf-8")
STAND_IN = """#!/bin/sh
if [ "$1" = --version ]; then echo "apptainer version 1.4.0"; exit; fi
printf '%s ' "$@" >> "$CALLS"
while [ "$1" != "$IMAGE" ]; do shift; done
shift
exec "$@"
"""


def section(name: str) -> list[str]:
    """The lines of a section of the recipe, without indentation and comments."""
    (text,) = re.findall(rf"^%{name}\n(.*?)(?=^%|\Z)", RECIPE, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def project() -> dict:
    with open(ROOT / "pyproject.toml", "rb") as handle:
        return tomllib.load(handle)["project"]


def test_the_base_image_has_a_python_that_the_package_takes():
    python = re.search(r"^From: python:(3\.\d+)-slim$", RECIPE, re.MULTILINE)[1]
    assert project()["requires-python"] == f">={python}"  # the oldest, on which constraints.txt was tried


def test_the_recipe_copies_what_a_wheel_is_built_from():
    copied = dict(line.split() for line in section("files"))
    assert set(copied) == set(BUILT_FROM)
    assert all(target == f"/opt/source/{source}" for source, target in copied.items())


def test_the_recipe_installs_the_pinned_requirements():
    (install,) = (shlex.split(line) for line in section("post") if "pip install" in line)
    assert install[install.index("--constraint") + 1] == "constraints.txt"
    extras = re.fullmatch(r"\.\[(.+)\]", install[-1])[1].split(",")
    assert set(extras) <= set(project()["optional-dependencies"])
    subprocess.run(["sh", "-n"], input="\n".join(section("post")), text=True, check=True)


@pytest.mark.parametrize("command", section("test"))
def test_the_recipes_own_tests_pass(command):
    words = shlex.split(command)
    assert words[0] == "python"
    subprocess.run([sys.executable, *words[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("image", ["safmn.sif", "elsewhere/other.sif"])
def test_jobs_run_in_the_image(snakemake, micro, tmp_path, image):
    program, calls = tmp_path / "bin/apptainer", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", "CALLS": str(calls), "IMAGE": image}
    if image != "safmn.sif":
        environment["SAFMN_CONTAINER"] = image
    target = "results/micro/data/photographs/x4/index.json"
    arguments = (target, "--configfile", micro(), "--sdm", "apptainer", "--apptainer-args=--nv")
    finished = snakemake(*arguments, **environment)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / target).is_file()
    assert re.search(rf"exec --home \S+ .*--nv .*{re.escape(image)} bash -c .*python -m safmn pack", calls.read_text())


def test_without_the_option_no_image_is_needed(snakemake, micro, tmp_path):
    finished = snakemake("--dry-run", "--configfile", micro(), PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")
    assert finished.returncode == 0, finished.stderr
    assert not (tmp_path / "safmn.sif").exists()
