"""Paths of the harness's files, in a checkout or in an installed package, and of a user's project.

In a checkout, `Snakefile`, `workflow/`, `ablations/`, `config/` and `environment.yml` are beside the package; a wheel
contains them as `safmn/project/` (see setup.py). A user's project is a folder that `safmn init` wrote: its variants are
added to the paper's.
"""

import os
import re
import sys
from pathlib import Path

from safmn import __version__
from safmn.errors import UserError, suggestion

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "project").is_dir()
"""Whether this is an installed package; else it is a checkout."""
ROOT = PACKAGE / "project" if INSTALLED else PACKAGE.parent
"""The folder with `Snakefile`, `workflow/`, `ablations/` and `config/`."""
SNAKEFILE = ROOT / "Snakefile"
SCHEMAS = ROOT / "workflow" / "schemas"
NETWORKS = "SAFMN_NETWORKS"
"""The environment variable with the folders of networks of one's own, separated as those of PATH."""
MADE_WITH = ".safmn-version"
"""The file of a user's project with the version of the package that wrote the project."""


def ablations() -> Path:
    """Return the folder of the paper's variants, or that of the environment variable SAFMN_ABLATIONS."""
    return Path(os.environ.get("SAFMN_ABLATIONS") or ROOT / "ablations")


def own_ablations() -> Path | None:
    """Return the folder of variants in the user's project; None outside of a project, or if SAFMN_ABLATIONS is set.

    Raises:
        UserError: the project has no such folder.
    """
    if os.environ.get("SAFMN_ABLATIONS"):
        return None
    folder = project()
    if folder is None:
        return None
    if not (folder / "ablations").is_dir():
        raise UserError(f"{folder / 'ablations'} is not a folder: a project has its variants there; make it")
    return folder / "ablations"


def own_networks() -> list[Path]:
    """Return the folders of networks of one's own: those of SAFMN_NETWORKS, or `networks/` of the user's project.

    A study that names such a folder (`own_networks`) adds it to SAFMN_NETWORKS, so that child processes find it.
    """
    if named := os.environ.get(NETWORKS):
        return [Path(folder).absolute() for folder in named.split(os.pathsep) if folder]
    folder = project()
    return [folder.absolute() / "networks"] if folder and (folder / "networks").is_dir() else []


def study(file: str | Path) -> Path:
    """Return the file of a study; a bare name, such as "mini", is one of the package's unless a file here has it.

    Raises:
        UserError: there is none; with the nearest names in its folder, or of the package.
    """
    path, packaged = Path(file), ROOT / "config" / f"{file}.yaml"
    if path.exists():
        return path
    is_name = re.fullmatch("[A-Za-z0-9_-]+", str(file)) is not None
    if is_name and packaged.is_file():
        return packaged
    near = packaged.parent.glob("*.yaml") if is_name else path.parent.glob("*.yaml")
    known = [each.stem if is_name else str(each) for each in near]
    raise UserError(f"there is no study {file}: {suggestion(str(file), known, 'give its file, or mini')}")


def project() -> Path | None:
    """Return the user's project: that of SAFMN_PROJECT, or the nearest around the current folder, or None.

    Raises:
        UserError: it is not complete, or another version of the package wrote it.
    """
    named = os.environ.get("SAFMN_PROJECT")
    if named:
        return _whole(Path(named))
    try:
        here = Path.cwd()
    except OSError:  # removed meanwhile
        return None
    marked = _around(here)
    return _whole(marked or here) if marked or _takes_the_workflow(here / "Snakefile") else None


def enter_project(snakefile: str | Path) -> None:
    """Make the folder of the main Snakefile the project of this process and its children, unless that is our own."""
    if os.path.exists(snakefile) and not os.path.samefile(snakefile, SNAKEFILE):
        here = Path(snakefile).absolute().parent
        os.environ["SAFMN_PROJECT"] = str(_whole(_around(here) or here))


def _around(folder: Path) -> Path | None:
    """Return the nearest of a folder and those above it that is marked as a project."""
    # Not Path.exists, which raises if a folder above may not be read.
    return next((place for place in (folder, *folder.parents) if os.path.lexists(place / MADE_WITH)), None)


def _takes_the_workflow(snakefile: Path) -> bool:
    """Say whether a Snakefile is a project's, so that its folder is a project even without the mark."""
    try:
        return b"safmn.paths" in snakefile.read_bytes()
    except OSError:
        return False


def _whole(folder: Path) -> Path:
    """Return the folder of a project; UserError if its version is unknown or another."""
    file = folder / MADE_WITH
    try:
        with open(file, "rb") as handle:
            text = handle.read(100).decode().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text"
        raise UserError(
            f"cannot read {file} ({reason}), which says what version of safmn-harness the project was made with: write "
            f"{__version__} into it if that is this one, or make a new project with `safmn init`"
        ) from error
    if not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}(\.[0-9A-Za-z.+-]{1,40})?", text):
        raise UserError(f"{file} holds no version such as {__version__}: write the one that the project was made with")
    if text.split(".")[:2] != __version__.split(".")[:2]:
        raise UserError(
            f"{folder} was made with safmn-harness {text}, and this is {__version__}: install {text}, or compare the "
            f"project with what `safmn init` writes now and put {__version__} into {file}"
        )
    return folder


def reach_from_child_processes() -> None:
    """Make `python -m safmn` in a child process run this code, by this Python or one that is put before it on PATH."""
    # A conda environment's Python must find this package, and no other package that is installed beside it.
    code = ROOT / "workflow" / "reach" if INSTALLED else ROOT
    front = {"PATH": (Path(sys.executable).parent, os.defpath), "PYTHONPATH": (code, None)}
    for name, (folder, default) in front.items():
        os.environ[name] = os.pathsep.join(filter(None, [str(folder), os.environ.get(name, default)]))
