"""A network of the user's own whose parameters cannot be used: one line that names file and module."""

from pathlib import Path

import pytest

from safmn import cli, networks
from safmn.errors import UserError
from safmn.training import loop

CODE = """
import torch
from torch import nn

class Lazy(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv = nn.LazyConv2d(dim, 1)

    def forward(self, x):
        return self.conv(x)

class LazyNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LazyBatchNorm2d(affine=False)

    def forward(self, x):
        return self.norm(x)

class Spectral(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim, 1, 1, dtype=torch.complex64))

    def forward(self, x):
        return torch.fft.ifft2(torch.fft.fft2(x) * self.gain).real

class Table(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("table", torch.ones(dim, 1, 1, dtype=torch.complex64))

    def forward(self, x):
        return (x * self.table).real
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Variants `lazy`, `lazynorm`, `spectral` and `table`."""
    monkeypatch.setenv("SAFMN_ABLATIONS", str(tmp_path))
    (tmp_path / "odd_layers.py").write_text(CODE)
    for name in ("Lazy", "LazyNorm", "Spectral", "Table"):
        text = f"title: own\ndescription: Own.\nnetwork: {{mixer: 'odd_layers:{name}'}}\n"
        (tmp_path / f"{name.lower()}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(("name", "module"), [("lazy", "safm.conv"), ("lazynorm", "safm.norm")])
@pytest.mark.parametrize("command", ["complexity {} --scale 4", "memory {} --scale 4 --height 32 --width 32"])
def test_lazy_modules(own: Path, capsys: pytest.CaptureFixture, name: str, module: str, command: str) -> None:
    assert cli.main(command.format(name).split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{own / name}.yaml: feats.0.{module} is a lazy module (Lazy" in said
    with pytest.raises(UserError, match="lazy module"):
        loop._check_trainable({"network": name, "scale": 4})


@pytest.mark.parametrize(("name", "tensor"), [("spectral", "gain"), ("table", "table")])
def test_complex_numbers(own: Path, name: str, tensor: str) -> None:
    """They can be built and counted, not trained."""
    networks.build(name, 4)
    with pytest.raises(UserError) as caught:
        loop._check_trainable({"network": name, "scale": 4})
    message = str(caught.value)
    assert "\n" not in message
    assert f"{own / name}.yaml: {tensor} of feats.0.safm (" in message
    assert "is complex" in message


def test_ordinary_networks_can_be_trained(own: Path) -> None:
    (own / "plain.yaml").write_text("title: own\ndescription: Own.\nnetwork: {norm: batch_norm}\n")
    for name in ("plain", "imdn"):
        loop._check_trainable({"network": name, "scale": 4})
