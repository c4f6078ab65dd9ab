"""The workshop that the runs of these tests share."""

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
