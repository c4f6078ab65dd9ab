"""What is laid over networks to make them fast on a CPU, against the plain networks and torch's own autograd."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from safmn import networks
from safmn.cost import memory
from safmn.networks import acceleration, safmn, weights
from safmn.quality import loading

LAYOUTS = [torch.channels_last, torch.contiguous_format]
BIG = (2, 64, 72)  # images, height, width: enough positions for the forms


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def both_ways(module: nn.Module, x: Tensor) -> list[list[Tensor]]:
    """Output and all gradients of a module, accelerated and plain, in float64 and training."""
    module = module.double().train()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = x.double().requires_grad_()
    found = []
    for network in (networks.accelerate(copy.deepcopy(module)), module):
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
    for form in (acceleration.LayerNorm, acceleration.Convolution, acceleration.Aggregation):
        original = form.apply
        monkeypatch.setattr(
            form, "apply", lambda *args, form=form, original=original: (names.append(form.__name__), original(*args))[1]
        )
    return names


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (5, 1), (1, 0)])
def test_a_convolution_has_the_gradients_of_torchs(kernel, padding, layout, threads, torch_threads, taken):
    torch_threads(threads)
    images, height, width = BIG
    x = torch.randn(images, 5, height, width).to(memory_format=layout)
    agree(both_ways(nn.Conv2d(5, 7, kernel, padding=padding), x))
    assert taken == ["Convolution"]


def test_only_the_gradients_that_are_needed_are_made(monkeypatch):
    """The first convolution's image wants none, a frozen one's weights neither."""
    asked = []
    original = acceleration._convolve_backward
    monkeypatch.setattr(
        acceleration, "_convolve_backward", lambda *args, **kw: (asked.append((args, kw)), original(*args, **kw))[1]
    )
    convolution = networks.accelerate(nn.Conv2d(3, 4, 3, padding=1)).train()
    convolution.weight.requires_grad_(False)
    convolution(torch.randn(2, 3, 64, 72)).sum().backward()
    assert [args[-1] for args, _ in asked] == [(False, False)]
    torch.testing.assert_close(convolution.bias.grad, torch.full((4,), 2.0 * 64 * 72))

    asked.clear()
    safm = networks.accelerate(safmn.SAFM(8)).train()
    safm.aggr.requires_grad_(False)
    safm.mfr[1].requires_grad_(False)
    safm(torch.randn(2, 8, 64, 72)).sum().backward()
    assert [kw["needs"] for _, kw in asked] == [(True, False), (False, False), (True, False), (True, False)]


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
    found = acceleration.Aggregation.apply(*convolution.parameters(), *features)
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
    plain = safmn.SAFMN(2, dim=8, n_blocks=2).double().to(memory_format=torch.channels_last).train()
    network = networks.accelerate(copy.deepcopy(plain))
    image = torch.rand(4, 3, 48, 48, dtype=torch.float64).to(memory_format=torch.channels_last)
    target = torch.rand(4, 3, 96, 96, dtype=torch.float64)
    for each in (network, plain):
        F.l1_loss(each(image), target).backward()
    for (name, ours), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-9, atol=1e-14, msg=name)
    assert {name: taken.count(name) for name in set(taken)} == {"LayerNorm": 4, "Convolution": 6, "Aggregation": 2}


@pytest.mark.parametrize("name", ["imdn", "edsr_baseline", "pan", "shufflemixer", "fsrcnn", "carn_m", "lapsrn", "smsr"])
def test_published_networks_learn_the_same(name, taken):
    plain = networks.build(name, 2).double().to(memory_format=torch.channels_last).train()
    network = networks.accelerate(copy.deepcopy(plain))
    image = torch.rand(2, networks.info(name).channels, 64, 64, dtype=torch.float64)
    outputs = []
    for each in (network, plain):
        torch.manual_seed(0)
        outputs.append(each(image))
        outputs[-1].sin().mean().backward()
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    for (key, ours), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(ours.grad, other.grad, rtol=1e-7, atol=1e-12, msg=key)
    assert ("Convolution" in taken) == any(
        isinstance(module, nn.Conv2d) and module.bias is not None for module in plain.modules()
    )


def test_forms_are_for_training_alone(taken):
    """Those with a backward pass: not where it is evaluated, in mixed types, on little or taken away."""
    network = networks.accelerate(safmn.SAFMN(2, dim=8, n_blocks=1)).train()
    image = torch.rand(4, 3, 48, 48)
    with torch.autocast("cpu", torch.bfloat16):
        network(image)
    with torch.no_grad():
        network(image)
    network(image[:1])
    acceleration.plain(network)(image)
    networks.accelerate(network).eval()(image)
    assert taken == []


# --- laid over and taken away ---


@pytest.mark.parametrize("name", ["safmn", "channel_mlp", "ln_bn", "imdn"])
def test_keys_weights_and_structure_stay(name):
    plain = networks.build(name, 4)
    network = networks.accelerate(copy.deepcopy(plain))
    assert list(network.state_dict()) == list(plain.state_dict())
    assert all(
        torch.equal(*pair) for pair in zip(network.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    assert all(isinstance(a, type(b)) for a, b in zip(network.modules(), plain.modules(), strict=True))
    network.load_state_dict(plain.state_dict())


def test_it_can_be_laid_over_twice_and_taken_away():
    network = networks.build("safmn", 4)
    classes = [type(module) for module in network.modules()]
    assert networks.accelerate(network) is network
    laid_over = [type(module) for module in network.modules()]
    assert [type(module) for module in networks.accelerate(network).modules()] == laid_over != classes
    assert [type(module) for module in acceleration.fuse(network).modules()] != laid_over
    assert [type(module) for module in acceleration.plain(network).modules()] == classes


def test_a_copy_is_as_fast_and_its_own(taken):
    network = networks.accelerate(safmn.SAFMN(2, dim=8, n_blocks=1)).train()
    image = torch.rand(4, 3, 48, 48)
    stored = io.BytesIO()
    torch.save(network, stored)
    stored.seek(0)
    network(image)
    expected = taken.copy()
    for each in (copy.deepcopy(network), torch.load(stored, weights_only=False)):
        taken.clear()
        each(image).mean().backward()
        assert taken == expected
        assert [type(module) for module in each.modules()] == [type(module) for module in network.modules()]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_is_evaluated_is_loaded_fast(tmp_path):
    path = tmp_path / "it.safetensors"
    weights.save(networks.build("safmn", 4), path, {"network": "safmn", "scale": "4"})
    network, _ = loading.load_network("safmn", 4, path)
    assert type(network.feats[0].safm) is acceleration.FastSAFM
    assert type(networks.load_weights(path, "safmn", 4).feats[0].safm) is safmn.SAFM


# --- off wherever somebody looks inside ---


def kinds_of_a_trace(network: nn.Module, image: Tensor) -> list[str]:
    return [node.kind() for node in torch.jit.trace(network, image, check_trace=False).inlined_graph.nodes()]


class Operations(TorchDispatchMode):
    """Names of what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("training", [True, False])
def test_what_is_traced_or_counted_is_the_plain_network(training):
    plain = safmn.SAFMN(2, dim=8, n_blocks=1).train(training)
    network = networks.accelerate(copy.deepcopy(plain))
    image = torch.rand(4, 3, 48, 48)
    with torch.set_grad_enabled(training):
        assert kinds_of_a_trace(network, image) == kinds_of_a_trace(plain, image)
        counted = []
        for each in (network, plain):
            with Operations() as operations:
                each(image)
            counted.append(operations.names)
        assert counted[0] == counted[1]
        exported = [torch.export.export(each, (image,)).graph_module.code for each in (network, plain)]
        assert exported[0] == exported[1]


@pytest.mark.parametrize("training", [True, False])
def test_who_watches_every_module_sees_the_plain_network(training):
    plain = safmn.SAFMN(2, dim=8, n_blocks=1).train(training)
    network = networks.accelerate(copy.deepcopy(plain))
    image = torch.rand(4, 3, 48, 48)
    seen: dict[nn.Module, list] = {network: [], plain: []}
    for each, kept in seen.items():
        for module in each.modules():
            module.register_forward_hook(lambda *values, kept=kept: kept.append(values[1:]))
        with torch.set_grad_enabled(training):
            each(image)
    for (ours_in, ours), (theirs_in, theirs) in zip(*seen.values(), strict=True):
        assert torch.equal(ours_in[0], theirs_in[0])
        assert torch.equal(ours, theirs)


def test_hooks_on_all_modules_at_once_are_seen_as_well(taken):
    network = networks.accelerate(safmn.SAFMN(2, dim=8, n_blocks=1)).train()
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        network(torch.rand(4, 3, 48, 48))
    finally:
        handle.remove()
    assert taken == []


def test_a_convolution_that_was_changed_trains_as_it_evaluates(taken):
    convolution = networks.accelerate(nn.Conv2d(3, 4, 3, padding=1))
    convolution.padding_mode, convolution._reversed_padding_repeated_twice = "reflect", [1, 1, 1, 1]
    x = torch.randn(2, 3, 64, 72)
    torch.testing.assert_close(convolution.train()(x), convolution.eval()(x))
    assert taken == []


@pytest.mark.parametrize(
    "switches",
    [
        {"stride": 2},
        {"groups": 3},
        {"dilation": 2},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
        {"bias": False},
        {"kernel_size": 1, "padding": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 1, "groups": 3},
        {"kernel_size": 1, "bias": False},
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_other_convolutions_compute_what_they_did(switches, threads, torch_threads):
    torch_threads(threads)
    convolution = nn.Conv2d(6, 9, **({"kernel_size": 3} | switches))
    x = torch.randn(2, 6, 64, 72).to(memory_format=torch.channels_last)
    agree(both_ways(convolution, x))
    accelerated = networks.accelerate(copy.deepcopy(convolution))
    torch.testing.assert_close(accelerated(x[0].double()), convolution(x[0].double()))  # an image without a batch


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
        torch.autograd.grad(y, wanted, upstream)
        for y in (acceleration.Aggregation.apply(*convolution.parameters(), *features), convolution(whole))
    ]
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)


def test_who_watches_the_aggregation_in_training_sees_the_concatenated_features():
    network = networks.accelerate(safmn.SAFMN(2, dim=8, n_blocks=1)).train()
    seen = []
    network.feats[0].safm.aggr.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    network(torch.rand(4, 3, 48, 48))
    assert seen == [(4, 8, 48, 48)]


@pytest.mark.parametrize("pooling", ["max", "average", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (8, 8), (45, 64), (48, 60)])
def test_what_is_evaluated_has_the_values_of_the_plain_network(height, width, pooling, torch_threads, monkeypatch):
    """SAFM bit by bit: the same maxima are found another way. (On one thread 1x1 convolutions have two kernels.)"""
    torch_threads(2)
    halved = []
    original = acceleration.halve_by_max
    monkeypatch.setattr(acceleration, "halve_by_max", lambda x: (halved.append(x.shape), original(x))[1])
    network = networks.accelerate(safmn.SAFMN(4, dim=8, n_blocks=2, pooling=pooling)).eval()
    image = torch.rand(2, 3, height, width)
    with torch.no_grad():
        ours = network(image)
    assert len(halved) == (6 if pooling == "max" and height % 8 == width % 8 == 0 else 0)
    halved.clear()
    torch.testing.assert_close(ours, network(image), rtol=0, atol=1e-5)  # with gradients
    with torch.no_grad():
        assert torch.equal(ours, acceleration.fuse(network)(image))  # LayerNorm by the same kernel
        torch.testing.assert_close(ours, acceleration.plain(network)(image), rtol=0, atol=1e-5)
    assert not halved


@pytest.mark.parametrize("layout", LAYOUTS)
def test_halving_finds_the_maxima(layout):
    x = torch.randn(2, 3, 10, 14).to(memory_format=layout)
    x[0, 0, 3, 5] = float("nan")
    x[0, 1] = float("-inf")
    torch.testing.assert_close(acceleration.halve_by_max(x), F.max_pool2d(x, 2), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("form", memory.FORMS)
def test_what_is_timed_takes_the_steps_of_a_gpu(form):
    network = memory.use_form(networks.accelerate(safmn.SAFMN(4, n_blocks=1)), form)
    laid_over = {type(module) for module in network.modules()} & {
        *acceleration.FAST.values(),
        *acceleration.FUSED.values(),
    }
    assert laid_over == ({acceleration.FusedLayerNorm2d} if form == "fused" else set())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_pixel_shuffle_moves_the_same_pixels(layout, scale):
    x = torch.randn(2, 3 * scale**2, 5, 7).to(memory_format=layout).requires_grad_()
    upstream = torch.randn(2, 3, 5 * scale, 7 * scale)
    ours, torchs = networks.accelerate(nn.PixelShuffle(scale))(x), nn.PixelShuffle(scale)(x)
    assert ours.is_contiguous()
    assert torch.equal(ours, torchs)
    assert torch.equal(*(torch.autograd.grad(y, x, upstream)[0] for y in (ours, torchs)))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("images", "side"), [(1, 5), (2, 64), (15, 33), (16, 64)])
def test_a_1x1_convolution_is_one_whatever_way_it_takes(memory_format, images, side, torch_threads):
    torch_threads(1)
    plain = nn.Conv2d(6, 9, 1)
    ours = networks.accelerate(copy.deepcopy(plain))
    x = torch.randn(images, 6, side, side + 3).to(memory_format=memory_format).requires_grad_()
    upstream = torch.randn(images, 9, side, side + 3)
    results = []
    for module in (ours, plain):
        y = module(x)
        results.append((y, *torch.autograd.grad(y, [x, *module.parameters()], upstream)))
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
