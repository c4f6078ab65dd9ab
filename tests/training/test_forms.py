"""`training.form`: every form computes the same, is part of the specification, and leaves the usual one's key alone."""

import copy
from pathlib import Path

import pytest
import torch

from safmn import networks
from safmn.networks.safmn import LayerNorm2d
from safmn.study import Run, Study
from safmn.training import forms, identity
from safmn.training.step import TrainStep
from tests.training.test_step import CPU, USUAL

MINI = Path(__file__).parents[2] / "config" / "mini.yaml"


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    lr, hr = (torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator) for side in (16, 64))
    return lr, hr


def trained(form: str) -> tuple[TrainStep, list[float]]:
    """The step of a form after two iterations in float64, where rounding is far below what a mistake would change."""
    torch.manual_seed(0)
    network = networks.accelerate(networks.build("blocks_4", 4)).double()
    step = forms.step(network, USUAL | {"form": form}, CPU)
    return step, [float(value) for iteration in range(2) for value in step(iteration, *batch())]


@pytest.fixture(scope="module")
def usual() -> tuple[TrainStep, list[float]]:
    return trained("usual")


@pytest.mark.parametrize("form", ["contiguous", "written", "channels_last"])
def test_a_form_learns_what_the_usual_one_learns(form: str, usual: tuple[TrainStep, list[float]]) -> None:
    step, said = trained(form)
    assert type(usual[0]) is TrainStep
    assert said == pytest.approx(usual[1], rel=1e-6)  # they are float32 or better
    here, there = step.network.state_dict(), usual[0].network.state_dict()
    assert list(here) == list(there)
    for name in here:
        torch.testing.assert_close(here[name], there[name], rtol=1e-7, atol=1e-9)
    kinds = {type(each) for each in step.network.modules() if isinstance(each, LayerNorm2d)}
    assert kinds == {forms.NORMS[form]} if form in forms.NORMS else len(kinds) == 1


def test_a_contiguous_norm_is_contiguous() -> None:
    norm, x = LayerNorm2d(12), torch.rand(2, 12, 8, 8)
    expected = norm(x)
    norm.__class__ = forms.ContiguousLayerNorm2d
    assert norm(x).is_contiguous()
    torch.testing.assert_close(norm(x), expected)


def test_a_compiled_step_compiles_the_trained_network_and_not_its_average(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compile_(function):
        compiled.append(function)
        return lambda x: function(x) * 1.0

    monkeypatch.setattr(torch, "compile", compile_)
    step, _ = trained("compiled")
    assert [each.__self__ for each in compiled] == [step.network]
    state = copy.deepcopy(step.state())
    trained("usual")[0].restore(state)  # the keys are the usual ones
    forms.step(networks.build("blocks_4", 4), USUAL | {"form": "compiled"}, torch.device("meta"))
    assert len(compiled) == 1  # not to find out what a step needs


def test_the_form_is_part_of_the_specification_only_where_it_is_not_the_usual_one() -> None:
    run = Run("safmn", 4, 0)
    content = copy.deepcopy(Study.load(MINI).content)
    assert "form" not in content["training"]
    plain = Study.from_content(content, "mini").specification(run)
    content["training"]["form"] = "usual"
    assert Study.from_content(content, "mini").specification(run) == plain
    content["training"]["form"] = "contiguous"
    other = Study.from_content(content, "mini").specification(run)
    assert other["training"] == plain["training"] | {"form": "contiguous"}
    assert identity.key_of(other, []) != identity.key_of(plain, [])
