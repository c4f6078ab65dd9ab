"""The forms that networks take on a CPU, against torch's own functions and their autograd."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safmn.cost import memory
from safmn.networks import blocks, cpu, safmn

LAYOUTS = [torch.channels_last, torch.contiguous_format]
BIG = (2, 64, 72)  # images, height, width: enough positions for the forms


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def both_ways(module: nn.Module, x: Tensor) -> list[list[Tensor]]:
    """Output and all gradients of a module, as it is and made plain, in float64 and training."""
    module = module.double().train()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = x.double().requires_grad_()
    found = []
    for network in (module, cpu.plain(copy.deepcopy(module))):
        y = network(x)
        upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape).sin()
        found.append([y.detach(), *torch.autograd.grad(y, [x, *network.parameters()], upstream)])
    return found


def agree(found: list[list[Tensor]]) -> None:
    for ours, plain in zip(*found, strict=True):
        assert ours.shape == plain.shape
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9 * plain.abs().max().item())


@pytest.fixture
def taken(monkeypatch) -> list[str]:
    """Names of the forms that were taken."""
    names = []
    for form in (cpu.LayerNorm, cpu.Convolution, cpu.Aggregation):
        original = form.apply
        monkeypatch.setattr(
            form, "apply", lambda *args, form=form, original=original: (names.append(form.__name__), original(*args))[1]
        )
    return names


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (5, 1)])
def test_a_convolution_has_the_gradients_of_torchs(kernel, padding, layout, threads, torch_threads, taken):
    torch_threads(threads)
    images, height, width = BIG
    x = torch.randn(images, 5, height, width).to(memory_format=layout)
    agree(both_ways(blocks.Conv2d(5, 7, kernel, padding), x))
    assert taken == ["Convolution"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pointwise_convolution_has_the_gradients_of_torchs(layout, threads, torch_threads, taken):
    torch_threads(threads)
    images, height, width = BIG
    agree(both_ways(blocks.Conv1x1(5, 7), torch.randn(images, 5, height, width).to(memory_format=layout)))
    assert taken == ["Convolution"]


def test_only_the_gradients_that_are_wanted_are_made(monkeypatch):
    """The first convolution's image wants none, a frozen one's weights neither."""
    asked = []
    original = cpu._convolve_backward
    monkeypatch.setattr(
        cpu, "_convolve_backward", lambda *args, **kw: (asked.append((args, kw)), original(*args, **kw))[1]
    )
    convolution = blocks.Conv2d(3, 4, 3, 1).train()
    convolution.weight.requires_grad_(False)
    convolution(torch.randn(2, 3, 64, 72)).sum().backward()
    assert [args[-1] for args, _ in asked] == [(False, False)]
    torch.testing.assert_close(convolution.bias.grad, torch.full((4,), 2.0 * 64 * 72))

    asked.clear()
    safm = safmn.SAFM(8).train()
    safm.aggr.requires_grad_(False)
    safm.mfr[1].requires_grad_(False)
    safm(torch.randn(2, 8, 64, 72)).sum().backward()
    assert [kw["wanted"] for _, kw in asked] == [(True, False), (False, False), (True, False), (True, False)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pooling", ["max", "average", "nearest"])
def test_aggregation_by_level_is_that_of_the_enlarged_and_concatenated(pooling, layout, threads, torch_threads, taken):
    """Eq. (2) as the paper has it is what the plain module computes."""
    torch_threads(threads)
    images, height, width = BIG
    x = torch.randn(images, 12, height, width).to(memory_format=layout)
    agree(both_ways(safmn.SAFM(12, pooling=pooling), x))
    assert taken == ["Aggregation"]


def test_aggregation_against_its_definition():
    """The matrix times the enlarged features, position by position."""
    sizes, channels = [(16, 24), (8, 12), (4, 6)], [2, 3, 1]
    features = [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip(channels, sizes, strict=True)]
    convolution = nn.Conv2d(6, 5, 1).double()
    found = cpu.aggregate(convolution, features)
    matrix, bias = convolution.weight[..., 0, 0], convolution.bias
    for image, row, column in [(0, 0, 0), (1, 15, 23), (0, 7, 9), (1, 3, 20)]:
        stacked = torch.cat([f[image, :, row >> i, column >> i] for i, f in enumerate(features)])
        torch.testing.assert_close(found[image, :, row, column], matrix @ stacked + bias)


@pytest.mark.parametrize("switches", [{"multi_scale": False}, {"aggregation": False}, {"modulation": False}])
def test_other_forms_of_safm_train_as_they_are_written(switches):
    agree(both_ways(safmn.SAFM(12, **switches), torch.randn(2, 12, 64, 72)))


@pytest.mark.parametrize(("height", "width"), [(90, 97), (92, 96), (100, 96)])
def test_sides_that_do_not_halve_are_enlarged_as_written(height, width, taken):
    agree(both_ways(safmn.SAFM(8), torch.randn(1, 8, height, width)))
    assert "Aggregation" not in taken


def test_the_whole_network_learns_the_same(taken):
    """Loss and gradients of SAFMN in float64, in the layout that it is trained in."""
    network = safmn.SAFMN(2, dim=8, n_blocks=2).double().to(memory_format=torch.channels_last).train()
    plain = cpu.plain(copy.deepcopy(network))
    image = torch.rand(4, 3, 48, 48, dtype=torch.float64).to(memory_format=torch.channels_last)
    target = torch.rand(4, 3, 96, 96, dtype=torch.float64)
    for each in (network, plain):
        F.l1_loss(each(image), target).backward()
    for (name, ours), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-9, atol=1e-14, msg=name)
    assert {name: taken.count(name) for name in set(taken)} == {"LayerNorm": 4, "Convolution": 6, "Aggregation": 2}


def test_forms_are_for_training_alone(taken):
    """Those with a backward pass: not where it is evaluated, counted, in mixed types, on little or switched off."""
    network = safmn.SAFMN(2, dim=8, n_blocks=1).train()
    image = torch.rand(4, 3, 48, 48)
    with torch.autocast("cpu", torch.bfloat16):
        network(image)
    with torch.no_grad():
        network(image)
        torch.jit.trace(network, image, check_trace=False)
    network(image[:1])
    for module in network.modules():
        module.cpu_form = False
    network(image)
    for module in network.modules():
        module.cpu_form = True
    network.eval()(image)
    assert taken == []


def test_a_convolution_that_was_changed_trains_as_it_evaluates(taken):
    convolution = blocks.Conv2d(3, 4, 3, 1)
    convolution.padding_mode, convolution._reversed_padding_repeated_twice = "reflect", [1, 1, 1, 1]
    x = torch.randn(2, 3, 64, 72)
    torch.testing.assert_close(convolution.train()(x), convolution.eval()(x))
    assert taken == []


@pytest.mark.parametrize("layouts", [LAYOUTS, LAYOUTS[::-1]])
@pytest.mark.parametrize("threads", [1, 2])
def test_levels_may_lie_differently_in_memory(layouts, threads, torch_threads):
    torch_threads(threads)
    convolution = nn.Conv2d(6, 5, 1).double()
    features = [torch.randn(4, 3, side, side, dtype=torch.float64) for side in (64, 32)]
    features = [f.to(memory_format=layout).requires_grad_() for f, layout in zip(features, layouts, strict=True)]
    wanted = [*features, *convolution.parameters()]
    whole = torch.cat([features[0], F.interpolate(features[1], scale_factor=2)], 1)
    upstream = torch.randn(4, 5, 64, 64, dtype=torch.float64)
    found = [
        torch.autograd.grad(y, wanted, upstream) for y in (cpu.aggregate(convolution, features), convolution(whole))
    ]
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def test_who_watches_the_aggregation_in_training_sees_the_concatenated_features():
    network = safmn.SAFMN(2, dim=8, n_blocks=1).train()
    seen = []
    network.feats[0].safm.aggr.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    network(torch.rand(4, 3, 48, 48))
    assert seen == [(4, 8, 48, 48)]


@pytest.mark.parametrize("pooling", ["max", "average", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (8, 8), (45, 64), (48, 60)])
def test_what_is_evaluated_has_the_values_of_the_plain_network(height, width, pooling, torch_threads, monkeypatch):
    """Bit by bit: the same maxima are found another way. (On one thread 1x1 convolutions have two kernels.)"""
    torch_threads(2)
    halved = []
    original = cpu.halve_by_max
    monkeypatch.setattr(cpu, "halve_by_max", lambda x: (halved.append(x.shape), original(x))[1])
    network = safmn.SAFMN(4, dim=8, n_blocks=2, pooling=pooling).eval()
    image = torch.rand(2, 3, height, width)
    with torch.no_grad():
        ours = network(image)
    assert len(halved) == (6 if pooling == "max" and height % 8 == width % 8 == 0 else 0)
    halved.clear()
    torch.testing.assert_close(ours, network(image), rtol=0, atol=1e-5)  # with gradients
    with torch.no_grad():
        assert torch.equal(ours, cpu.plain(network)(image))
    assert not halved


@pytest.mark.parametrize("layout", LAYOUTS)
def test_halving_finds_the_maxima(layout):
    x = torch.randn(2, 3, 10, 14).to(memory_format=layout)
    x[0, 0, 3, 5] = float("nan")
    x[0, 1] = float("-inf")
    torch.testing.assert_close(cpu.halve_by_max(x), F.max_pool2d(x, 2), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("form", memory.FORMS)
def test_what_is_timed_takes_the_steps_of_a_gpu(form):
    network = memory.use_form(safmn.SAFMN(4, n_blocks=1), form)
    assert not any(getattr(module, "cpu_form", False) for module in network.modules())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pixel_shuffle_moves_the_same_pixels(layout, scale):
    x = torch.randn(2, 3 * scale**2, 5, 7).to(memory_format=layout).requires_grad_()
    upstream = torch.randn(2, 3, 5 * scale, 7 * scale)
    ours, torchs = blocks.PixelShuffle(scale)(x), nn.PixelShuffle(scale)(x)
    assert torch.equal(ours, torchs)
    assert torch.equal(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, torchs)))
