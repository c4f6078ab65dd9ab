"""The workshop that the runs of these tests share, and a run that nobody disturbs."""

from pathlib import Path

import pytest

from .workshop import Workshop


@pytest.fixture(scope="session")
def _workshop(tmp_path_factory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def workshop(_workshop, monkeypatch) -> Workshop:
    """A `Workshop` whose variants are the ones that this process knows."""
    monkeypatch.setenv("SAFMN_ABLATIONS", str(_workshop.variants))
    return _workshop


@pytest.fixture(scope="session")
def straight(_workshop, tmp_path_factory) -> Path:
    """A run without changes, whose bytes the disturbed ones must have; not to be changed."""
    out = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFMN_ABLATIONS", str(_workshop.variants))
        _workshop.train(out)
    return out
