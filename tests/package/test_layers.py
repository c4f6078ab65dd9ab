"""Import layers: the README's drawing, the contracts in pyproject.toml and the imports agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.package.conftest import ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
with open(ROOT / "pyproject.toml", "rb") as settings:
    IMPORTLINTER = tomllib.load(settings)["tool"]["importlinter"]


def drawn() -> list[set[str]]:
    """Return the README's layers from the top, as folders or modules of the package."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^   cli  .*?(?=^```)", text, re.DOTALL | re.MULTILINE)
    return [set(re.split(" {2,}", line.strip())[0].split(" · ")) for line in block.splitlines()]


def test_the_drawing_is_the_contract():
    (layers,) = (contract["layers"] for contract in IMPORTLINTER["contracts"] if contract["type"] == "layers")
    assert [{"__main__"}, *drawn()] == [set(layer.split(" | ")) for layer in layers]


def test_every_folder_is_drawn():
    rooms = {
        file.stem for file in (ROOT / "safmn").iterdir() if file.suffix == ".py" or (file / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} == set().union(*drawn())


@pytest.mark.parametrize("upside_down", [False, True])
def test_no_import_goes_up(tmp_path, upside_down):
    """Nearly every import goes up if the layers are upside down, so that the contract would detect one."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    if upside_down:
        layers = re.search(r"^layers = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)[1]
        text = text.replace(layers, "\n".join(reversed(layers.splitlines())) + "\n")
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    command = [LINT_IMPORTS, "--no-cache", "--config", tmp_path / "pyproject.toml"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (finished.returncode != 0) == upside_down, finished.stdout


@pytest.mark.parametrize("contract", ["layers", "acyclic_siblings"])
def test_no_exception_is_made(contract):
    assert contract in {entry["type"] for entry in IMPORTLINTER["contracts"]}
    assert "ignore_imports" not in str(IMPORTLINTER)
    assert not IMPORTLINTER.get("exclude_type_checking_imports")


def test_lint_runs_the_contracts():
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    assert "/lint-imports" in lint
    assert "make lint" in (ROOT / ".ci/run").read_text()


# Prints the command after which a library is first in sys.modules. argparse exits after --help and after a mistake.
WAITING = """
import contextlib, io, sys
from safmn.cli import COMMANDS, main
heavy = {"torch", "matplotlib", "scipy"}
for command in [*COMMANDS, "no_such_command"]:
    for option in ("--help", "--no-such-option"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with contextlib.suppress(SystemExit):
                main([command, option])
        for library in heavy & set(sys.modules):
            print(command, option, library)
            heavy.remove(library)
"""


def test_help_and_usage_errors_wait_for_no_large_library():
    told = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, cwd=ROOT, check=True)
    assert told.stdout == ""
