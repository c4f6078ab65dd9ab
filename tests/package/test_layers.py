"""Import layers: the README's drawing, the contracts in pyproject.toml and the imports agree."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.package.conftest import ROOT

PACKAGE = ROOT / "safmn"


def drawn() -> list[list[str]]:
    """Return the README's layers from the top, as lists of folders or modules of the package."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^   cli  .*?(?=^```)", text, re.DOTALL | re.MULTILINE)
    return [re.split(" {2,}", line.strip())[0].split(" · ") for line in block.splitlines()]


def contracted() -> list[list[str]]:
    """Return the layers of the contract in pyproject.toml."""
    with open(ROOT / "pyproject.toml", "rb") as handle:
        contracts = tomllib.load(handle)["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [layer.split(" | ") for layer in layers]


def modules() -> dict[str, Path]:
    """Return the file of every module of the package."""
    files = {file: file.relative_to(ROOT).with_suffix("").parts for file in PACKAGE.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): file for file, parts in files.items()}


def imports(module: str, file: Path) -> set[str]:
    """Return the modules of the package that a file imports, inside functions too."""
    known, names = modules(), set()
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                names.add(f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in known else origin)
    return {name for name in names if name in known and name != "safmn"}


def upward(layers: list[list[str]]) -> list[str]:
    """Return the imports from one layer to another that is not below it."""
    height = {room: -place for place, rooms in enumerate(layers) for room in rooms}
    return sorted(
        f"{module} -> {target}"
        for module, file in modules().items()
        for target in imports(module, file)
        if "." in module and (to := target.split(".")[1]) != (of := module.split(".")[1]) and height[to] >= height[of]
    )


def test_the_drawing_is_the_contract():
    assert [sorted(rooms) for rooms in drawn()] == [sorted(rooms) for rooms in contracted() if rooms != ["__main__"]]


def test_every_folder_is_drawn():
    folders = {module.split(".")[1] for module in modules() if "." in module} - {"__main__"}
    assert folders == {room for rooms in drawn() for room in rooms}


def test_no_import_goes_up():
    assert upward([["__main__"], *drawn()]) == []


def test_an_import_that_goes_up_is_detected():
    """With the layers upside down, nearly every import goes up."""
    assert len(upward([*drawn(), ["__main__"]][::-1])) > 100


@pytest.mark.parametrize("contract", ["layers", "acyclic_siblings"])
def test_no_exception_is_made(contract):
    with open(ROOT / "pyproject.toml", "rb") as handle:
        settings = tomllib.load(handle)["tool"]["importlinter"]
    assert contract in {entry["type"] for entry in settings["contracts"]}
    assert "ignore_imports" not in str(settings)
    assert not settings.get("exclude_type_checking_imports")


def test_lint_runs_the_contracts():
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    assert "/lint-imports" in lint
    assert "make lint" in (ROOT / ".ci/run").read_text()
