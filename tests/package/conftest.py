"""An empty environment with the wheel in it, built from the checkout; third-party packages are those of the tests."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILT_FROM = ("safmn", "workflow", "ablations", "config", "profiles", "Snakefile", "environment.yml", "LICENSE")
BUILT_FROM += ("README.md", "constraints.txt", "pyproject.toml", "setup.py")


def build(source: Path, out: Path) -> Path:
    """The wheel of a folder or of an sdist, made without network."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    told = subprocess.run(
        [*command, "--wheel-dir", out, source], env={}, cwd=out.parent, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """A copy of the checkout without what git does not know; building leaves files in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def wheel(checkout, tmp_path_factory) -> Path:
    return build(checkout, tmp_path_factory.mktemp("wheel") / "dist")


@pytest.fixture(scope="session")
def python(wheel, tmp_path_factory) -> Path:
    """The Python of a new environment that holds the wheel; the tests' own environment lends it everything else."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # A folder named in a .pth file is searched, but .pth files in it are not read: no development install is reached.
    Path(place, "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True, env={})
    return python


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def anywhere(python) -> Run:
    """Runs a command of the new environment with no environment variable at all; it must succeed unless `fails`."""

    def run(*words: str | Path, cwd: Path, fails: bool = False) -> subprocess.CompletedProcess[str]:
        first, *rest = map(str, words)
        command = {"python": [python], "safmn": [python.parent / "safmn"], "snakemake": [python, "-m", "snakemake"]}
        told = subprocess.run(
            [*command[first], *rest], cwd=cwd, env={}, capture_output=True, text=True, timeout=300, check=False
        )
        assert (told.returncode != 0) is fails, f"{words}\n{told.stdout[-3000:]}{told.stderr[-3000:]}"
        return told

    return run
