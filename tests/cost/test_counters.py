"""What other programs count: against the packages where they are installed, and against a table of a challenge."""

import contextlib
import io
import warnings

import pytest
import torch
from torch import nn

from safmn import networks
from safmn.cost import counters
from safmn.cost.counters import FVCORE, NTIRE23, NTIRE24, PTFLOPS, THOP

SIZE = (24, 40)
# With LayerNorm written out, poolings, PReLU and transposed convolutions, channel attention, functional interpolation.
NAMES = ["safmn", "no_mr", "avg_pool", "ln_bn", "ccm_se", "fsrcnn", "imdn", "pan", "safmn_ntire23", "safmn_pp"]
# Not among them: networks that share a layer, which ptflops counts once for each place, or that read values.


class Mixed(nn.Module):
    """Layers that no network of the project has."""

    def __init__(self) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(scale_factor=2, mode="bilinear")
        self.nearest = nn.Upsample(scale_factor=2)
        self.norm = nn.LayerNorm(48)
        self.pool = nn.AvgPool2d(2)
        self.linear = nn.Linear(48, 5)
        self.softmax = nn.Softmax(dim=-1)
        self.instance = nn.InstanceNorm2d(3, affine=True)
        self.act = nn.LeakyReLU()

    def forward(self, x):
        y = self.instance(self.act(self.enlarge(x)).add(self.nearest(x)))
        y = self.norm(y.mul(2.0))
        scores = self.softmax(self.linear(self.pool(torch.add(y, 1.0)).repeat(1, 1, 1, 2)))
        return scores.matmul(scores.transpose(2, 3))


def subjects():
    return [*((name, networks.build(name, 4)) for name in NAMES), ("mixed", Mixed())]


def count(module: nn.Module, channels: int, size=SIZE) -> dict[str, counters.Count]:
    return {count.program: count for count in counters.compare(module, 4, size, channels)}


def channels_of(name: str) -> int:
    return 3 if name == "mixed" else networks.info(name).channels


def test_thop():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thop = pytest.importorskip("thop", reason="thop is not installed; what it would count follows from its rules")
    for name, module in subjects():
        channels, size = channels_of(name), (24, 24) if name == "mixed" else SIZE
        ours = count(module, channels, size)[THOP]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flops, params = thop.profile(module, (torch.rand(1, channels, *size),), verbose=False)
        assert (name, ours.total, ours.params) == (name, int(flops), int(params))


def test_ptflops():
    ptflops = pytest.importorskip("ptflops", reason="ptflops is not installed; its counts follow from its rules")
    for name, module in subjects():
        channels, size = channels_of(name), (24, 24) if name == "mixed" else SIZE
        ours = count(module, channels, size)[PTFLOPS]
        with contextlib.redirect_stdout(io.StringIO()):
            flops, params = ptflops.get_model_complexity_info(
                module, (channels, *size), as_strings=False, print_per_layer_stat=False, verbose=False
            )
        assert (name, ours.total, ours.params) == (name, int(flops), params)


def test_the_challenge_of_2024_as_its_table_has_it():
    """SAFMN++: 13.86 G, 69.28 M, 32 convolutions and 0.212 M in results.txt, made on 256x256 pixels."""
    counted = {count.program: count for count in counters.compare("safmn_pp", 4, (256, 256))}
    entry = counted[NTIRE24]
    assert (round(entry.total / 1e9, 2), round(entry.activations / 1e6, 2)) == (13.86, 69.28)
    assert (entry.convolutions, round(entry.params / 1e6, 3)) == (32, 0.212)
    # Of 2023, by hand: 6 x (9 (36 36 + 12 / 64 + 36 54) + 36 (36 + 54)) + 9 (3 36 + 36 48) a position.
    per_position = 6 * (9 * (36 * 36 + 12 / 64 + 36 * 54) + 36 * (36 + 54)) + 9 * (3 * 36 + 36 * 48)
    assert counted[NTIRE23].total == per_position * 256**2


def test_every_difference_has_a_reason():
    counts = counters.compare("ln_bn", 4, SIZE)
    ours, *others = counts
    assert [count.program for count in counts] == [FVCORE, THOP, PTFLOPS, NTIRE23, NTIRE24]
    assert ours.reasons == others[-1].reasons == []
    for other in others[:-1]:
        different = {part for part in counters.PARTS if other.flops[part] != ours.flops[part]}
        assert sum(reason.startswith("FLOPs of") for reason in other.reasons) == len(different) > 0
        moved = sum(other.flops[part] - ours.flops[part] for part in different)
        assert ours.total + moved == other.total


def test_torch_is_left_as_it_was():
    before = [vars(owner).get(name) for owner, name, *_ in counters.FUNCTIONS]
    counters.compare("fsrcnn", 2, (8, 8))
    assert [vars(owner).get(name) for owner, name, *_ in counters.FUNCTIONS] == before
