"""The registry of published weights against the files at hand and the networks of the project."""

import hashlib
import re

import pytest

from safmn import networks
from safmn.networks import published_weights
from safmn.networks.published_weights import WEIGHTS, at_hand, find, obtain

AT_HAND = [("imdn", 2), ("imdn", 4), ("pan", 4), ("carn_m", 2), ("carn_m", 3), ("carn_m", 4)]


@pytest.mark.parametrize(("network", "scale"), AT_HAND)
def test_the_files_at_hand_are_the_ones_described(checkpoints, network, scale):
    path = at_hand(network, scale, str(checkpoints))
    assert path is not None
    remote = find(network, scale).remote
    assert path.name == remote.name
    assert path.stat().st_size == remote.size
    assert hashlib.sha256(path.read_bytes()).hexdigest() == remote.sha256
    networks.load_weights(path, network, scale)


def test_each_entry_is_complete_and_sound():
    for weights in WEIGHTS:
        assert weights.network in networks.names()
        assert set(weights.scales) <= set(networks.info(weights.network).scales)
        assert all(url.startswith("https://") for url in weights.remote.urls)
        assert weights.remote.sha256 is None or re.fullmatch("[0-9a-f]{64}", weights.remote.sha256)
        assert weights.licence
        assert weights.loads
        github = [url for url in weights.remote.urls if "github.com" in url or "huggingface.co" in url]
        assert all(re.search("/[0-9a-f]{40}/", url) for url in github)  # pinned to a commit
    names = [weights.remote.name for weights in WEIGHTS]
    assert len(set(names)) == len(names)
    places = [(weights.network, scale) for weights in WEIGHTS for scale in weights.scales]
    assert len(set(places)) == len(places)


def test_weights_that_are_not_those_of_the_print_say_so():
    """CARN's authors trained both anew, and changed the upsampler of CARN-M: from their README."""
    departing = {weights.network: weights.departs for weights in WEIGHTS if weights.departs}
    assert set(departing) == {"carn", "carn_m"}
    for text in departing.values():
        assert "trained anew after the paper, with batch and patch raised to 64" in text
        assert "Urban100 of their earlier results was wrong at x2 and x3" in text
        assert "\n" not in text
        assert not text.endswith(".")
    assert "grouped 3x3 convolutions in the upsampler" in departing["carn_m"]
    assert "grouped" not in departing["carn"]


def test_every_network_has_weights_or_a_reason():
    for name in networks.published_networks():
        assert any(find(name, scale) for scale in (2, 3, 4)) or name in published_weights.WITHOUT or name == "bicubic"
    assert not {weights.network for weights in WEIGHTS} & set(published_weights.WITHOUT)


def test_where_weights_come_from_is_half_a_sentence():
    for name in networks.names():
        for scale in (2, 3, 4):
            text = obtain(name, scale)
            assert text
            assert "\n" not in text
            assert not text.endswith(".")
    assert "`safmn fetch imdn --scale 3 --to DIR` downloads IMDN_x3.pth from github.com" in obtain("imdn", 3)
    assert "IMDN_x4.pth (2.9 MB)" in obtain("imdn", 4)
    assert "pickled module" in obtain("vdsr", 4)
    assert "x2 only" in obtain("smsr", 4)
    assert "lapar_a_x4.pth" in obtain("lapar_a", 4)
    assert "nobody published any" in obtain("no_fm", 4)


def test_at_hand_looks_for_the_authors_name_then_for_the_projects(tmp_path):
    assert at_hand("imdn", 4, None) is None
    assert at_hand("imdn", 4, tmp_path) is None
    assert at_hand("imdn", 4, tmp_path / "missing") is None
    (tmp_path / "IMDN_x4.pth").mkdir()  # no file
    assert at_hand("imdn", 4, tmp_path) is None
    (tmp_path / "imdn_x4.pt").write_bytes(b"")
    (tmp_path / "imdn_x4.safetensors").write_bytes(b"")
    assert at_hand("imdn", 4, tmp_path) == tmp_path / "imdn_x4.safetensors"
    (tmp_path / "IMDN_x4.pth").rmdir()
    (tmp_path / "IMDN_x4.pth").write_bytes(b"")
    assert at_hand("imdn", 4, tmp_path) == tmp_path / "IMDN_x4.pth"
    assert at_hand("imdn", 2, tmp_path) is None
    (tmp_path / "carn_m.pth").write_bytes(b"")
    assert [at_hand("carn_m", scale, tmp_path) for scale in (2, 3, 4)] == [tmp_path / "carn_m.pth"] * 3
    (tmp_path / "lapar_a_x3.pth").write_bytes(b"")
    assert at_hand("lapar_a", 3, str(tmp_path)) == tmp_path / "lapar_a_x3.pth"
