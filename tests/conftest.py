"""Fixtures that all tests share: where real images and weights are, one thread, nothing written outside tmp_path."""

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

torch.set_num_threads(1)


def _folder(variable: str, holds: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: it names the folder that holds {holds}")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"{variable}={value} is not a folder")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole studies come first: at the end of a run on several cores, none waits for a long file."""
    items.sort(key=lambda item: item.path.parent.name != "workflow")


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder with Set5, Set14, B100 (HR and LR), T91 and BSDS200 in EDSR's layout."""
    return _folder("SAFMN_DATASETS", "Set5, Set14, B100, T91 and BSDS200")


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    """The folder with weights as their authors published them."""
    return _folder("SAFMN_CHECKPOINTS", "the authors' published weights")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of six iterations, with tables, and its archive in `whole`; not to be changed."""
    from tests import small_study

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small"  # one for all processes
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            small_study.make(folder)
            with contextlib.chdir(folder):
                words = ("--study", "results/small/study.json")
                small_study.safmn("tables", *words)
                small_study.safmn("archive", *words, "--out", "whole", "--weights", "all")
            (folder / "done").touch()
    return folder


@pytest.fixture(autouse=True)
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lines of progress, which come where a machine is slow: a message can then be asked to be the only line."""
    monkeypatch.setattr("safmn.progress.PATIENCE", math.inf)


@pytest.fixture(autouse=True)
def own_modules_are_forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A module that a test writes and imports is found by no other test, which may write one of the same name."""
    path, before = [*sys.path], set(sys.modules)
    yield
    sys.path[:] = path
    base = str(tmp_path_factory.getbasetemp())
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(base):
            del sys.modules[name]


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads torch computes with; one again afterwards."""
    yield torch.set_num_threads
    torch.set_num_threads(1)
