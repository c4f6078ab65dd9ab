"""What single operations count: against formulas written out here, the same computation in other words, and torch."""

import sys
import textwrap
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from safmn import cli
from safmn.cost import complexity, rules
from safmn.networks.registry import Network

H, W = 12, 20  # pixels of the image, 1 x 3 x H x W
L = H * W


class Own(nn.Module):
    """A network that is one function of the image, with modules."""

    def __init__(self, function: Callable, *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(modules)

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image, *self.inner)


@pytest.fixture
def counted(monkeypatch):
    """Traces a function of the image with modules; `make` builds the modules anew for each pass."""

    def trace(function: Callable, *make: Callable[[], nn.Module], **more: object) -> complexity.Trace:
        own = Network("own", "own", lambda scale: Own(function, *(each() for each in make)), colour="RGB")
        found = SimpleNamespace(build=lambda name, scale: own.factory(scale), info=lambda name: own)
        monkeypatch.setattr(complexity, "networks", found)
        return complexity.trace("own", 4, size=(H, W), **more)

    return trace


def tokens(image: Tensor) -> Tensor:
    """1 x L x 3."""
    return image.flatten(2).transpose(1, 2)


def ones(*shape: int, like: Tensor) -> Tensor:
    return torch.ones(*shape, device=like.device)


# --- Written-out formulas ---------------------------------------------------------------------------------------------


class Convolve(torch.autograd.Function):
    """A function with gradients of its own."""

    @staticmethod
    def forward(ctx, image, weight):
        return F.conv2d(image, weight, padding=1)


CONVOLUTIONS = {
    "own gradients": (lambda x, m: Convolve.apply(x, m.weight), lambda: nn.Conv2d(3, 5, 3, bias=False), 5 * 27 * L),
    "same": (lambda x, m: m(x), lambda: nn.Conv2d(3, 5, 3, padding="same"), 5 * 3 * 9 * L),
    "same, dilated": (lambda x, m: m(x), lambda: nn.Conv2d(3, 5, 3, padding="same", dilation=2), 5 * 3 * 9 * L),
    "valid": (lambda x, m: m(x), lambda: nn.Conv2d(3, 5, 3, padding="valid"), 5 * 3 * 9 * (H - 2) * (W - 2)),
    "groups": (lambda x, m: m(x), lambda: nn.Conv2d(3, 6, 3, padding="same", groups=3), 6 * 9 * L),
    "1d": (lambda x, m: m(x[:, :, 0]), lambda: nn.Conv1d(3, 5, 3, padding="same"), 5 * 3 * 3 * W),
    "3d": (lambda x, m: m(x[:, :, None]), lambda: nn.Conv3d(3, 5, 3, padding="same"), 5 * 3 * 27 * L),
    "without a batch": (lambda x, m: m(x[0]), lambda: nn.Conv2d(3, 5, 3, padding=1), 5 * 3 * 9 * L),
    "transposed": (lambda x, m: m(x), lambda: nn.ConvTranspose2d(3, 5, 4, 2), 5 * 3 * 16 * L),
    "scripted": (lambda x, m: m(x), lambda: torch.jit.script(nn.Conv2d(3, 5, 3, padding=1)), 5 * 3 * 9 * L),
    "time first": (
        lambda x: torch.conv_tbc(x[0].permute(1, 2, 0), ones(3, 3, 5, like=x), ones(5, like=x), 1),
        None,
        5 * 3 * 3 * L,
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_count_their_weights_at_every_position(name, counted):
    function, make, flops = CONVOLUTIONS[name]
    traced = counted(function, *([make] if make else []))
    assert traced.flops == flops
    assert not traced.uncounted
    (operation,) = traced.operations
    assert traced.activations == torch.Size(operation.output).numel()


PRODUCTS = {  # of two matrices, vectors or more: (function, FLOPs, activations)
    "bilinear": (lambda x: F.bilinear(tokens(x), tokens(x), ones(7, 3, 3, like=x)), L * 7 * 3 * 3, L * 7),
    "mm": (lambda x: torch.mm(x[0, 0], x[0, 0].mT), H * W * H, H * H),
    "bmm": (lambda x: torch.bmm(x[0], x[0].mT), 3 * H * W * H, 3 * H * H),
    "matmul, broadcast": (lambda x: x[0, 0] @ ones(4, W, 7, like=x), 4 * H * W * 7, 4 * H * 7),
    "matmul with a vector": (lambda x: x[0] @ x[0, 0, 0], 3 * H * W, 3 * H),
    "in place": (lambda x: torch.zeros(H, H, device=x.device).addmm_(x[0, 0], x[0, 0].mT), H * W * H, H * H),
    "into a given tensor": (
        lambda x: torch.mm(x[0, 0], x[0, 0].mT, out=torch.empty(H, H, device=x.device)),
        H * W * H,
        H * H,
    ),
    "baddbmm": (lambda x: torch.baddbmm(ones(3, H, H, like=x), x[0], x[0].mT), 3 * H * W * H, 3 * H * H),
    "addbmm": (lambda x: torch.addbmm(ones(H, H, like=x), x[0], x[0].mT), 3 * H * W * H, H * H),
    "mv": (lambda x: torch.mv(x[0, 0], x[0, 0, 0]), H * W, H),
    "addmv": (lambda x: torch.addmv(ones(H, like=x), x[0, 0], x[0, 0, 0]), H * W, H),
    "dot": (lambda x: torch.dot(x.flatten(), x.flatten()), 3 * L, 1),
    "vdot": (lambda x: torch.vdot(x.flatten(), x.flatten()), 3 * L, 1),
    "inner": (lambda x: torch.inner(x[0, 0], x[0, 1]), H * W * H, H * H),
    "outer": (lambda x: torch.outer(x[0, 0, 0], x[0, 0, :, 0]), W * H, 0),
    "addr": (lambda x: torch.addr(ones(W, W, like=x), x[0, 0, 0], x[0, 0, 1]), W * W, 0),
    "kron": (lambda x: torch.kron(x[0, 0], x[0, 1]), L * L, 0),
    "tensordot": (lambda x: torch.tensordot(x, ones(3, 7, like=x), dims=([1], [0])), 7 * 3 * L, 7 * L),
    "einsum": (lambda x: torch.einsum("nchw,cd->ndhw", x, ones(3, 7, like=x)), 7 * 3 * L, 7 * L),
    "einsum in words of its own": (lambda x: torch.einsum("...ij, ...jk", x, x.mT), 3 * H * W * H, 3 * H * H),
    "einsum with two and one leading dimensions": (
        lambda x: torch.einsum("...ij,...jk", ones(2, 3, 4, 5, like=x), ones(3, 5, 6, like=x)),
        2 * 3 * 4 * 5 * 6,
        2 * 3 * 4 * 6,
    ),
    "multi_dot": (lambda x: torch.linalg.multi_dot([x[0, 0], x[0, 0].mT, x[0, 0]]), 2 * H * W * H, H * H + L),
    "vmap": (lambda x: torch.vmap(lambda row: row @ ones(3, 7, like=x))(tokens(x)), 7 * 3 * L, 7 * L),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_count_a_multiply_add_for_each_term(name, counted):
    function, flops, activations = PRODUCTS[name]
    traced = counted(function)
    assert (traced.flops, traced.activations) == (flops, activations)
    assert not traced.uncounted


@pytest.mark.parametrize(
    "product",
    [
        lambda image, weight: image.flatten(2).mT @ weight,
        lambda image, weight: F.linear(image.permute(0, 2, 3, 1), weight),
        lambda image, weight: torch.einsum("bchw,cd->bdhw", image, weight),
    ],
)
def test_products_of_complex_numbers_count_their_four_real_products(product, counted):
    """(a + bi)(c + di) = ac - bd + (ad + bc)i, written out by the second function."""
    traced = counted(
        lambda image: product(torch.complex(image, image), torch.ones(3, 3, device=image.device) + 0j).real
    )

    def in_real_numbers(image: Tensor) -> Tensor:
        weight = torch.ones(3, 3, device=image.device)
        products = [product(image, weight) for _ in range(4)]
        return products[0] - products[1] + products[2] + products[3]

    assert traced.flops == 4 * 9 * L == counted(in_real_numbers).flops


@pytest.mark.parametrize(
    ("equation", "shapes", "cost"),
    [
        ("bi,oij,bj->bo", ((50, 3), (7, 3, 4), (50, 4)), 50 * 7 * 3 * 4 * 3 // 2),  # two products and a sum
        ("ij,jk,kl->il", ((2, 300), (300, 2), (2, 9)), 2 * 300 * 2 + 2 * 2 * 9),
        ("bhid,bhjd->bhij", ((2, 3, 1234, 5), (2, 3, 567, 5)), 2 * 3 * 1234 * 567 * 5),
    ],
)
def test_einsum_takes_the_cheapest_order(equation, shapes, cost):
    given = {"equation": equation, "tensors": [torch.empty(shape, device="meta") for shape in shapes]}
    out = torch.einsum(equation, *given["tensors"])
    assert rules.RULES["einsum"](given, out) == (cost, out.numel())


# --- Attention --------------------------------------------------------------------------------------------------------


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def with_backend(backend: SDPBackend) -> Callable:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v)

    return attend


ATTENTION = {
    "fused": F.scaled_dot_product_attention,
    "causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    "mask": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=ones(q.shape[-2], k.shape[-2], like=q)),
    "math": with_backend(SDPBackend.MATH),
    "flash": with_backend(SDPBackend.FLASH_ATTENTION),
    "efficient": with_backend(SDPBackend.EFFICIENT_ATTENTION),
    "its kernel": lambda q, k, v: torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0],
}


@pytest.mark.parametrize("form", ATTENTION)
def test_attention_counts_as_the_two_products_that_it_stands_for(form, counted):
    heads, size = 3, 1
    split = lambda x: tokens(x).reshape(1, L, heads, size).transpose(1, 2)  # noqa: E731
    fused = counted(lambda x: ATTENTION[form](split(x), split(x), split(x)))
    plain = counted(lambda x: written_out(split(x), split(x), split(x)))
    assert fused.flops == plain.flops == heads * 2 * L * L * size
    assert fused.activations == plain.activations
    assert not fused.uncounted
    assert len(fused.operations) == 1


def test_keys_and_values_of_other_sizes_and_shared_heads(counted):
    def attend(x: Tensor) -> Tensor:
        q, k, v = ones(2, 8, 30, 5, like=x), ones(2, 2, 11, 5, like=x), ones(2, 2, 11, 7, like=x)
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    count = counted(attend)
    assert count.flops == 2 * 8 * 30 * 11 * (5 + 7)
    assert count.activations == 2 * 8 * 30 * (11 + 7)  # the weights and the result


E, HEADS, INNER = 6, 2, 10
PROJECTIONS = 4 * L * E * E
ATTENDING, FEEDING, NORM = PROJECTIONS + 2 * L * L * E, 2 * L * E * INNER, 5 * L * E


def encoder_layer(**options: bool) -> nn.Module:
    return nn.TransformerEncoderLayer(E, HEADS, INNER, batch_first=True, **options)


LAYERS = {  # module, FLOPs
    "attention": (lambda: nn.MultiheadAttention(E, HEADS, batch_first=True), ATTENDING),
    "encoder layer": (encoder_layer, ATTENDING + FEEDING + 2 * NORM),
    "norm first": (lambda: encoder_layer(norm_first=True), ATTENDING + FEEDING + 2 * NORM),
    "two encoder layers": (
        lambda: nn.TransformerEncoder(encoder_layer(), 2),
        2 * (ATTENDING + FEEDING + 2 * NORM),
    ),
    "decoder layer": (
        lambda: nn.TransformerDecoderLayer(E, HEADS, INNER, batch_first=True),
        2 * ATTENDING + FEEDING + 3 * NORM,
    ),
}


@pytest.mark.parametrize("device", ["meta", "cpu"])  # on the CPU torch has fused kernels for whole layers
@pytest.mark.parametrize("name", LAYERS)
def test_transformer_layers_count_their_parts(name, device, counted):
    make, flops = LAYERS[name]

    def run(x: Tensor, module: nn.Module) -> Tensor:
        wide = tokens(x).repeat(1, 1, 2)
        if isinstance(module, nn.MultiheadAttention):
            return module(wide, wide, wide)[0]
        return module(wide, wide) if isinstance(module, nn.TransformerDecoderLayer) else module(wide)

    traced = counted(run, make, device=device)
    assert traced.flops == flops
    assert not traced.uncounted
    assert torch.backends.mha.get_fastpath_enabled()  # as it was


# --- Recurrent layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "cell", "gates"), [(nn.LSTM, nn.LSTMCell, 4), (nn.GRU, nn.GRUCell, 3), (nn.RNN, nn.RNNCell, 1)]
)
def test_recurrent_layers_count_as_their_cells_at_every_step(layer, cell, gates, counted):
    def by_cells(x: Tensor, module: nn.Module) -> Tensor:
        state = None
        for step in tokens(x).unbind(1):
            state = module(step, state)
        return state[0]

    whole = counted(lambda x, m: m(tokens(x))[0], lambda: layer(3, 5, batch_first=True))
    steps = counted(by_cells, lambda: cell(3, 5))
    assert whole.flops == steps.flops == L * gates * 5 * (3 + 5)
    assert whole.activations == steps.activations == L * gates * 2 * 5
    assert not whole.uncounted
    assert not steps.uncounted


def test_layers_directions_and_projections_of_an_lstm(counted):
    traced = counted(
        lambda x, m: m(tokens(x))[0], lambda: nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2, batch_first=True)
    )
    first, second, projection = 4 * 5 * (3 + 2), 4 * 5 * (4 + 2), 2 * 5
    assert traced.flops == L * 2 * (first + second + 2 * projection)


def test_packed_sequences_count_their_own_lengths(counted):
    def packed(x: Tensor, module: nn.Module) -> Tensor:
        both = tokens(x).expand(2, -1, -1)
        return module(nn.utils.rnn.pack_padded_sequence(both, torch.tensor([L, 10]), batch_first=True))[0].data

    traced = counted(packed, lambda: nn.GRU(3, 5, batch_first=True))
    assert traced.flops == (L + 10) * 3 * 5 * (3 + 5)
    assert not traced.uncounted


# --- By the element ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "flops"),
    [
        (lambda x: F.interpolate(x, scale_factor=2), 3 * 4 * L),
        (lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"), 3 * 4 * L),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 4 * 3 * 4 * L),
        (lambda x: F.interpolate(x[:, :, 0], scale_factor=2, mode="linear"), 2 * 3 * 2 * W),
        (lambda x: F.interpolate(x[:, :, None], scale_factor=2, mode="trilinear"), 8 * 3 * 8 * L),
        (lambda x: F.grid_sample(x, ones(1, 5, 7, 2, like=x), align_corners=True), 4 * 3 * 5 * 7),
        (lambda x: F.layer_norm(x.reshape(1, 3, 2, 3, 2, W), (W,)), 4 * 3 * L),  # six dimensions
        (lambda x: F.group_norm(x, 3, ones(3, like=x)), 5 * 3 * L),
    ],
)
def test_interpolations_and_norms_count_by_the_element(function, flops, counted):
    traced = counted(function)
    assert (traced.flops, traced.activations) == (flops, 0)
    assert not traced.uncounted


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.gelu(x) * x.sigmoid() + x.exp().sqrt() - F.leaky_relu(x, 0.1),
        lambda x: F.pixel_shuffle(F.pad(x, (1, 1, 1, 1), mode="reflect").repeat(1, 4, 1, 1), 2).roll(1, 2).flip(3),
        lambda x: torch.cat([x.mean((2, 3)), x.var((2, 3)), x.amax((2, 3)), x.norm(dim=(2, 3))], 1).softmax(1),
        lambda x: F.fold(F.unfold(F.max_pool2d(F.avg_pool2d(x, 2), 2), 3), (H // 4, W // 4), 3),
        lambda x: torch.where(x > 0.5, x, 0).clamp(0, 1).sort(-1)[0].gather(3, torch.zeros_like(x, dtype=torch.int64)),
    ],
)
def test_elements_reductions_and_moves_are_free(function, counted):
    traced = counted(function)
    assert (traced.flops, traced.activations, traced.uncounted) == (0, 0, {})


# --- What cannot be counted -------------------------------------------------------------------------------------------

LIBRARY = torch.library.Library("safmn_tests", "DEF")
LIBRARY.define("warp(Tensor x) -> Tensor")
LIBRARY.impl("warp", lambda x: x * 2, "CompositeExplicitAutograd")


@pytest.mark.parametrize(
    ("function", "uncounted"),
    [
        (lambda x: torch.fft.irfft2(torch.fft.rfft2(x)), {"aten::fft_irfft2": 1, "aten::fft_rfft2": 1}),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), {"aten::upsample_bicubic2d": 1}),
        (lambda x: x.cumsum(-1).cumsum(-2), {"aten::cumsum": 2}),
        (lambda x: torch.cdist(x[0], x[0]), {"aten::cdist": 1}),
        (lambda x: torch.linalg.inv(x[0, :, :H, :H] + torch.eye(H, device=x.device)), {"aten::linalg_inv": 1}),
        (lambda x: torch.sparse.mm(torch.eye(W).to_sparse(), x[0, 0].mT), {"aten::_sparse_mm": 1}),
        (lambda x: torch.ops.safmn_tests.warp(x), {"safmn_tests::warp": 1}),
        (lambda x: torch.from_numpy(x.numpy() ** 2), {"numpy": 1}),
    ],
)
def test_what_has_a_cost_but_no_rule_is_named(function, uncounted, counted):
    traced = counted(lambda x: function(x) if x.dim() else x)
    assert traced.uncounted == uncounted
    record = complexity.record(traced)
    assert record["lower_bound"]
    assert record["uncounted"] == [{"operation": key, "calls": calls} for key, calls in uncounted.items()]
    for key, calls in uncounted.items():
        assert any(
            f"own x4: {key} ({calls} calls) has no rule and counts 0" in each for each in complexity.warnings(record)
        )


@pytest.mark.parametrize(
    "function",
    [
        lambda x, m: m(x) if x.mean() > 0 else x,
        lambda x, m: m(x)[..., : max(1, int(x.amax()))],
        lambda x, m: m(x[:, x.sum((0, 2, 3)) > 0]),
    ],
)
def test_a_look_at_values_is_named_with_module_and_line(function, counted):
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 5, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return function(x, self.convolution)

    traced = counted(lambda x, m: m(x), Gate)
    (place,) = traced.value_reads
    line = function.__code__.co_firstlineno
    assert place == f"module inner.0, test_rules.py line {line}"
    assert traced.flops == 5 * 27 * L
    assert not traced.uncounted


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_command_warns_and_marks_the_lower_bound(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "ablations"
    folder.mkdir()
    monkeypatch.setenv("SAFMN_ABLATIONS", str(folder))
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = """
        import torch
        from torch import nn

        class Spectrum(nn.Module):
            def __init__(self, dim):
                super().__init__()
                self.c = nn.Conv2d(dim, dim, 3, padding="same")

            def forward(self, x):
                return torch.fft.irfft2(torch.fft.rfft2(self.c(x)), s=x.shape[-2:])
    """
    (folder / "spectral_probe.py").write_text(textwrap.dedent(module))
    text = "title: own\ndescription: own\nnetwork: {mixer: 'spectral_probe:Spectrum'}\n"
    (folder / "spectral.yaml").write_text(text)
    (folder / "plain.yaml").write_text("title: own\ndescription: own\n")
    out = tmp_path / "counts.json"
    assert cli.main(["complexity", "spectral", "plain", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "warning: spectral x4: aten::fft_rfft2 (8 calls) has no rule and counts 0" in said.err
    assert "plain x4" not in said.err
    assert ">= 18.27 G" in said.out
    assert ">= 13.55 G" not in said.out
    assert cli.main(["complexity", "spectral", "--out", str(out)]) == 0
    assert '"lower_bound": true' in out.read_text()
