"""Files of variants that other tools would take for SAFMN: marked, refused by strict loaders, known to ours."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from safmn import networks
from safmn.errors import UserError
from safmn.networks import marker, variants, weights
from safmn.networks.safmn import SAFMN

ALIKE = ["no_fm", "avg_pool", "nearest_pool", "gelu_none", "gelu_sigmoid"]
"""The paper's variants with the baseline's keys and shapes and another computation."""


def others(state: dict[str, Tensor]) -> nn.Module:
    """SAFMN as other tools have it: the published keys, width, depth and scale taken from the file's shapes."""
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("feats."))
    scale = int((len(state["to_img.0.weight"]) / 3) ** 0.5)
    network = SAFMN(scale, dim=len(state["to_feat.weight"]), n_blocks=blocks)
    network.load_state_dict(state, strict=True)
    return network


def saved(folder: Path, name: str, scale: int = 4) -> tuple[nn.Module, Path]:
    """A network with random weights, and its file as training writes it."""
    torch.manual_seed(0)
    network = networks.build(name, scale).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    path = folder / f"{name}.safetensors"
    weights.save(network, path, {"network": name, "scale": str(scale), "which": "best"})
    return network, path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that writes a variant of the user's own beside the baseline."""
    folder = tmp_path / "ablations"
    folder.mkdir()
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))

    def write(name: str, text: str) -> None:
        (folder / f"{name}.yaml").write_text(f"title: {name}\ndescription: Own.\n{text}")

    write("safmn", "network: {}\n")
    write("no_fm", "network: {modulation: false}\n")
    return write


@torch.no_grad()
def differ(one: nn.Module, other: nn.Module) -> float:
    image = torch.rand(1, 3, 21, 26, generator=torch.Generator().manual_seed(0))
    first, second = one(image), other(image)
    return float((first - second).abs().max() / second.abs().max())


@pytest.mark.parametrize(("name", "scale"), [("safmn", 2), ("safmn", 3), ("safmn", 4), ("blocks_4", 4)])
def test_what_other_tools_compute_right_they_open(tmp_path: Path, name: str, scale: int) -> None:
    network, path = saved(tmp_path, name, scale)
    state = safetensors.torch.load_file(path)
    assert set(state) == set(network.state_dict())
    assert differ(others(state), network) < 1e-4


@pytest.mark.parametrize("name", ALIKE)
def test_what_they_would_compute_wrong_they_refuse(tmp_path: Path, name: str) -> None:
    network, path = saved(tmp_path, name)
    state = safetensors.torch.load_file(path)
    with pytest.raises(RuntimeError, match=rf"Unexpected key.*this_is_not_safmn_but\.{name}"):
        others(state)
    # Without the marker they would take it, and give another picture.
    plain, marks = marker.taken_off(state)
    assert marks == (name,)
    assert differ(others(plain), network) > 0.01


def test_every_variant_is_marked_or_refused_or_computed_alike(tmp_path: Path) -> None:
    marked = []
    for name in variants.discover():
        network, path = saved(tmp_path, name)
        state = safetensors.torch.load_file(path)
        marked += [name] if set(state) - set(network.state_dict()) else []
        try:
            other = others(state)
        except (RuntimeError, KeyError):
            continue
        assert differ(other, network) < 1e-4, name
    assert sorted(marked) == sorted(ALIKE)


@pytest.mark.parametrize("name", ["safmn", *ALIKE])
def test_ours_reads_what_it_wrote(tmp_path: Path, name: str) -> None:
    network, path = saved(tmp_path, name)
    loaded = networks.load_weights(path, name, 4)
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"params_ema": s}, lambda s: {f"module.{k}": s[k] for k in s}])
@pytest.mark.parametrize("asked", ["safmn", "avg_pool", "nearest_pool"])
def test_a_marked_file_is_of_no_other_network(tmp_path: Path, wrap, asked: str) -> None:
    """Without metadata too, and through another program."""
    _, path = saved(tmp_path, "no_fm")
    torch.save(wrap(safetensors.torch.load_file(path)), tmp_path / "it.pth")
    networks.load_weights(tmp_path / "it.pth", "no_fm", 4)
    with pytest.raises(UserError, match=f"it.pth holds no_fm .*, not {asked}: choose") as caught:
        networks.load_weights(tmp_path / "it.pth", asked, 4)
    assert "\n" not in str(caught.value)


def test_files_from_before_load_as_what_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    network, _ = saved(tmp_path, "no_fm")
    safetensors.torch.save_file(network.state_dict(), tmp_path / "old.safetensors", {"network": "no_fm", "scale": "4"})
    networks.load_weights(tmp_path / "old.safetensors", "no_fm", 4)
    assert capsys.readouterr() == ("", "")


def test_saving_draws_no_random_number_and_gives_the_same_bytes(tmp_path: Path) -> None:
    network, path = saved(tmp_path, "gelu_none")
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    weights.save(network, tmp_path / "b", {"network": "gelu_none", "scale": "4", "which": "best"})
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert (tmp_path / "b").read_bytes() == path.read_bytes()


CODE = """
from torch import nn
from safmn.networks.safmn import SAFM

class Same(SAFM):
    def forward(self, x):
        return 2 * super().forward(x) / 2

class Other(SAFM):
    def forward(self, x):
        return super().forward(x) * 0.5

class Unable(SAFM):
    def forward(self, x):
        raise RuntimeError("only where I was made")

class Drops(SAFM):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, self.training)
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("network: {dim: 24, n_blocks: 3, expansion: 1.5}", False),  # other tools take these from the shapes
        ("network: {}\ntraining: {learning_rate: 0.0001}", False),
        ("network: {mixer: 'marked_layers:Same'}", False),
        ("network: {mixer: 'marked_layers:Drops'}", False),  # in training only
        ("network: {mixer: 'marked_layers:Other'}", True),
        ("network: {mixer: 'marked_layers:Unable'}", True),  # nobody can tell
        ("network: {dim: 24, n_blocks: 3, modulation: false}", True),
        ("network: {norm: l2}", False),  # lacks keys that other tools ask for
    ],
)
def test_variants_of_ones_own(own, tmp_path: Path, text: str, expected: bool) -> None:
    (tmp_path / "ablations" / "marked_layers.py").write_text(CODE)
    own("mine", text)
    network, path = saved(tmp_path, "mine")
    extra = set(safetensors.torch.load_file(path)) - set(network.state_dict())
    assert extra == ({"this_is_not_safmn_but.mine"} if expected else set())
    networks.load_weights(path, "mine", 4)


def test_a_baseline_that_was_changed_is_no_baseline(own, tmp_path: Path) -> None:
    own("safmn", "network: {activation: sigmoid}\n")
    _, path = saved(tmp_path, "safmn")
    assert "this_is_not_safmn_but.safmn" in safetensors.torch.load_file(path)
