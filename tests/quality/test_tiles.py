"""Networks that look at the whole picture are found by what they compute, whoever wrote them; the others are not."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn import cli, networks
from safmn.data import images
from safmn.networks import weights
from safmn.quality import tiling


class Body(nn.Module):
    """One convolution, then something in between, then x2 by pixel shuffle."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(3, 8, 3, padding=1), between, nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.last(self.between(self.first(x))), 2)


class Do(nn.Module):
    def __init__(self, what) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        return self.what(x)


def gate(pool) -> nn.Module:
    return Do(lambda x: x * torch.sigmoid(pool(x)))


def attend(x: Tensor) -> Tensor:
    """Attention between channels: products are summed over all pixels."""
    flat = x.flatten(2)
    return ((flat @ flat.transpose(1, 2) / flat.shape[2]).softmax(-1) @ flat).view_as(x)


WHOLE = {
    "adaptive pooling to 1": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sigmoid()),
    "adaptive pooling to 4": nn.Sequential(nn.AdaptiveMaxPool2d(4), nn.Upsample((16, 640))),
    "mean over H and W": gate(lambda x: x.mean((2, 3), keepdim=True)),
    "mean of one axis": gate(lambda x: x.mean(3, keepdim=True)),
    "maximum": gate(lambda x: x.amax((2, 3), keepdim=True)),
    "deviation": gate(lambda x: x.std((2, 3), keepdim=True)),
    "functional pooling": gate(lambda x: F.adaptive_avg_pool2d(x, 1)),
    "functional pooling to 2": gate(lambda x: F.interpolate(F.adaptive_avg_pool2d(x, (1, 2)), x.shape[2:])),
    "instance normalisation": nn.InstanceNorm2d(8),
    "functional instance normalisation": Do(lambda x: F.instance_norm(x)),
    "group normalisation": nn.GroupNorm(2, 8),
    "attention between channels": Do(attend),
    "Fourier transform": Do(lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.9, s=x.shape[-2:]).roll(320, 3)),
    "pooling by 12": Do(
        lambda x: F.interpolate(F.max_pool2d(x, 12, ceil_mode=True), scale_factor=12)[..., :16, : x.shape[3]]
    ),
    "pooling by 16": Do(
        lambda x: F.interpolate(F.max_pool2d(x, 16, ceil_mode=True), scale_factor=16)[..., : x.shape[3]]
    ),
    "positions": Do(lambda x: x + torch.linspace(0, 1, x.shape[3])),
}
LOCAL = {
    "nothing": nn.Identity(),
    "pooling by 8": Do(
        lambda x: F.interpolate(F.adaptive_max_pool2d(x, (x.shape[2] // 8, x.shape[3] // 8)), x.shape[2:])
    ),
    "batch normalisation": nn.BatchNorm2d(8),
    "normalisation of channels": Do(lambda x: F.normalize(x, dim=1)),
    "instance normalisation with running statistics": nn.InstanceNorm2d(8, track_running_stats=True),
    "a large kernel": nn.Conv2d(8, 8, 31, padding=15, groups=8),
    "windows": Do(lambda x: F.unfold(F.avg_pool2d(x, 3, 1, 1), 1).view_as(x)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_looks_at_the_whole_picture_is_found(name: str) -> None:
    torch.manual_seed(0)
    assert tiling.sees_everything(Body(WHOLE[name]).eval(), "RGB")


@pytest.mark.parametrize("name", LOCAL)
def test_what_does_not_is_left_in_peace(name: str) -> None:
    torch.manual_seed(0)
    assert tiling.sees_everything(Body(LOCAL[name]).eval(), "RGB") == ""


@pytest.mark.parametrize(
    ("name", "whole"),
    [("imdn", True), ("ccm_se", True), ("safmn", False), ("pan", False), ("espcn", False), ("bicubic", False)],
)
def test_networks_of_the_project(name: str, whole: bool) -> None:
    torch.manual_seed(0)
    assert bool(tiling.sees_everything(networks.build(name, 2).eval(), networks.info(name).colour)) is whole


def test_what_cannot_be_tried_is_no_error() -> None:
    def refuse(x: Tensor) -> Tensor:
        raise RuntimeError("needs square pictures")

    assert tiling.sees_everything(Body(Do(refuse)).eval(), "RGB") == ""


def test_upscale_warns(tmp_path, capsys) -> None:
    """Once, and where tiles are asked for only; the values do differ."""
    torch.manual_seed(0)
    for name in ("imdn", "espcn"):
        weights.save(networks.build(name, 2), tmp_path / f"{name}.safetensors", {"network": name, "scale": "2"})
    picture = np.zeros((40, 96, 3), np.uint8)
    picture[:, 48:] = np.random.default_rng(0).integers(0, 256, (40, 48, 3))
    images.write(tmp_path / "in.png", picture)
    for name, options, warned in (
        ("imdn", ["--tile", "32"], True),
        ("imdn", [], False),
        ("espcn", ["--tile", "32"], False),
    ):
        command = ["upscale", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--scale", "2", *options]
        assert cli.main([*command, "--weights", str(tmp_path / f"{name}.safetensors")]) == 0
        told = capsys.readouterr().err
        assert ("looks at the whole picture" in told) is warned
        assert told.count("\n") == warned
