"""Carrying the project to a machine without a network: what is missing there, and for which Python. No index."""

import importlib.util
import json
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.package.conftest import ROOT

SCRIPT = ROOT / "scripts" / "wheelhouse"


@pytest.fixture(scope="module")
def wheelhouse() -> ModuleType:
    loader = SourceFileLoader("wheelhouse", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("wheelhouse", loader))
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


PACKAGES = {
    "a": ("2.0", ["b>=1", "old; python_version < '3.12'", "new>=3; python_version >= '3.12'", "x; extra == 'y'"]),
    "b": ("1.0", ["torch>=2.6", "b-part"]),
    "torch": ("2.11.0", ["nvidia-thing==13"]),
    "b-part": ("0.1", ["a"]),
}


def missing(module: ModuleType, *lines: str, python: str = "3.12", trusted: tuple[str, ...] = ("torch",)) -> dict:
    def find(name: str) -> list[tuple[Version, list[str]]]:
        return [(Version(PACKAGES[name][0]), PACKAGES[name][1])] if name in PACKAGES else []

    return module.unmet(map(Requirement, lines), find, {"python_version": python}, trusted)


def test_what_is_missing_is_found_through_what_is_there(wheelhouse: ModuleType) -> None:
    assert missing(wheelhouse, "a") == {"new>=3": "a"}
    assert missing(wheelhouse, "a", python="3.11") == {"old": "a"}  # markers are those of the other Python
    assert missing(wheelhouse, "a[y]")["x"] == "a"
    assert missing(wheelhouse, "b-part", "B_Part", trusted=("torch", "a")) == {}
    assert missing(wheelhouse, "b", trusted=("a",)) == {"nvidia-thing==13": "torch"}


def test_what_is_too_old_is_missing(wheelhouse: ModuleType) -> None:
    assert missing(wheelhouse, "torch>=2.12", trusted=("nvidia-thing",)) == {
        "torch>=2.12": "safmn-harness, and 2.11.0 is there"
    }


def test_what_is_too_new_there_is_no_obstacle_if_one_that_fits_is_carried(wheelhouse: ModuleType) -> None:
    two = [(Version("26.4"), []), (Version("25.0"), ["b-part"])]
    found = {"packaging": two, "b-part": [(Version("1"), [])]}
    required = [Requirement("packaging>=24"), Requirement("packaging<26")]
    assert wheelhouse.unmet(required, lambda name: found.get(name, []), {}) == {}
    found["packaging"] = two[:1]
    assert list(wheelhouse.unmet(required, lambda name: found.get(name, []), {})) == ["packaging<26"]


def test_a_torch_that_is_there_counts_as_whole(wheelhouse: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    required = [Requirement("torch>=2.6"), Requirement("numpy>=2.0")]
    for version, left in (("2.6.0+cu124", ["numpy"]), ("2.5.1", ["torch", "numpy"]), (None, ["torch", "numpy"])):
        there = [(Version(version), ["nvidia-thing==13"])] if version else []
        monkeypatch.setattr(wheelhouse, "installed", lambda name, there=there: there)
        assert [each.name for each in wheelhouse.without_torch(required)] == left


def test_only_what_few_need_is_left_out_in_a_conflict(wheelhouse: ModuleType) -> None:
    said = """
The conflict is caused by:
    fvcore 0.1.5.post20221221 depends on numpy
    snakemake-executor-plugin-slurm 2.8.0 depends on numpy<3 and >=2.4.5
    The user requested (constraint) numpy
"""
    assert wheelhouse.in_conflict(said) == {"snakemake-executor-plugin-slurm"}
    assert wheelhouse.in_conflict(said.replace("snakemake-executor-plugin-slurm", "snakemake")) == set()


def test_nothing_that_the_package_needs_is_forgotten(wheelhouse: ModuleType) -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    names = {each.name for each in wheelhouse.roots()}
    for line in [*project["dependencies"], *project["optional-dependencies"]["slurm"]]:
        assert Requirement(line).name in names


def test_a_stub_stands_for_what_the_other_machine_has(wheelhouse: ModuleType, tmp_path: Path) -> None:
    pins = {"torch": "2.13.0"}
    for text, version in (("torch", "2.13.0"), ("torch==2.6.1", "2.6.1"), ("unheard-of", "9999")):
        constraint = wheelhouse.stub(tmp_path, Requirement(text), pins)
        name = Requirement(text).name
        assert constraint.startswith(f"{name} @ file://")
        assert wheelhouse.in_folder(tmp_path)(name) == [(Version(version), [])]
        Path(constraint.partition("file://")[2]).unlink()


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)


def test_a_wheelhouse_for_another_python_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    (tmp_path / "wheelhouse.json").write_text(json.dumps({"python": "3.99", "machine": "x86_64", "excluded": []}))
    done = run("install", tmp_path)
    here = f"3.{sys.version_info.minor}"
    assert done.returncode == 1
    expected = f"is for Python 3.99, and this is {here}: build one with PYTHON_VERSION={here}"
    assert done.stderr.splitlines() == [f"wheelhouse: {tmp_path} {expected}"]
    done = run("install", tmp_path / "nowhere")
    assert (done.returncode, "is no wheelhouse" in done.stderr) == (1, True)
    done = run("build", "--python-version", "2.7", "--out", tmp_path / "new")
    assert (done.returncode, "give one from 3.11 on" in done.stderr) == (1, True)


def test_packages_that_are_there_are_kept(wheelhouse: ModuleType, tmp_path: Path) -> None:
    """An almost empty wheelhouse is enough beside this environment; without its packages all are named."""
    wheelhouse.stub(tmp_path, Requirement("setuptools==84.2.1"), {})  # a new environment has an old one of its own
    record = {"python": f"3.{sys.version_info.minor}", "machine": "x86_64", "excluded": []}
    (tmp_path / "wheelhouse.json").write_text(json.dumps(record))
    done = run("install", tmp_path, "--dry-run", "--into", tmp_path / "environment")
    assert done.returncode == 0, done.stderr
    assert "nothing is missing" in done.stdout
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    bare = [tmp_path / "bare" / "bin" / "python", "-E", SCRIPT, "install", tmp_path, "--dry-run"]
    done = subprocess.run(bare, capture_output=True, text=True, check=False, env={})
    assert done.returncode == 1
    assert "missing: torch>=2.6 (for safmn-harness)" in done.stderr.splitlines()
    assert "without these in EXCLUDE: " in done.stderr.splitlines()[-1]
