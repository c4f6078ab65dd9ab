"""Peak memory of inference and of a training step: predicted without a GPU, or measured on one (Table 2, #GPU Mem.).

The prediction runs the network on the meta device, where tensors have shapes but no data. It follows every storage from
creation to release as CUDA's allocator would: a live storage counts its size rounded up to 512 bytes, views share their
storage, an in-place operation creates none, and a tensor that a Python variable still refers to is live. Weights,
buffers and input are included. Not included: workspaces of cuDNN and cuBLAS, temporaries inside one kernel, and the
CUDA context, which `torch.cuda.max_memory_allocated` does not count either.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from safmn import networks
from safmn.cost import running
from safmn.device import description as devices
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError, as_line
from safmn.networks import acceleration
from safmn.networks.safmn import SMALLEST_SIDE, LayerNorm2d
from safmn.training.forms import step as training_step
from safmn.training.rehearsal import fit_for_meta

BLOCK = 512  # bytes; CUDA's caching allocator rounds every allocation up to a multiple of it
MAX_SIDE = 2**20  # LR pixels: beyond it torch cannot count the bytes
FORMS = ("reference", "fused")
MAX_DIFFERENCE = 10.0  # percent between measurement and prediction, above which one of them must be explained

CONVENTION = (
    "peak of live tensor storage, each rounded up to 512 bytes; weights, buffers and input included; "
    "1 MiB = 2^20 bytes; float32, one image, eval mode without gradients"
)


def predict(name: str, scale: int, height: int, width: int) -> int:
    """Predict the peak memory of the inference of one image (Table 2, #GPU Mem.); no GPU is needed.

    LayerNorm runs step by step as in the authors' code (form "reference"), of which Table 2 is.

    Args:
        name: a name from `safmn list`.
        scale: 2, 3 or 4.
        height: LR pixels, 8 to 2^20.
        width: LR pixels, 8 to 2^20.

    Returns:
        Bytes.

    Raises:
        UserError: an unknown network or scale, or a size out of range.
    """
    peak: int = predict_details(name, scale, height, width)["peak"]
    return peak


def predict_details(name: str, scale: int, height: int, width: int, form: str = "reference") -> dict[str, Any]:
    """Predict the peak memory of inference with its parts; errors as for `predict`.

    `form` "reference" computes LayerNorm step by step as the authors do, "fused" by torch's kernel, as this project
    trains on a GPU. A network without LayerNorm is the same in both.

    Returns:
        In bytes `peak`, `weights`, `input`, and `activations` (what is live at the peak beyond weights and input);
        `layer`, path of the module that runs at the peak ("" is the network itself); `operation`, torch's name of what
        it computes; `form`.
    """
    check_size(height, width)
    network = _build(name, scale, form).eval().to("meta")
    image = torch.empty(1, networks.info(name).channels, height, width, device="meta")
    tracker = PeakTracker("meta")
    weights = tracker.hold(_weights(network))
    image_size = tracker.hold([image])
    with torch.no_grad(), tracker, tracker.layers_of(network):
        network(image)
    return {
        "peak": tracker.peak,
        "weights": weights,
        "input": image_size,
        "activations": tracker.peak - weights - image_size,
        "layer": tracker.peak_layer,
        "operation": tracker.peak_operation,
        "form": form,
    }


def predict_training(name: str, scale: int, settings: dict[str, Any], form: str = "fused") -> dict[str, Any]:
    """Predict the peak memory of one training step, to see whether a batch fits before a job is submitted.

    The real step (`safmn.training.step`) runs on the meta device.

    Args:
        name: a name from `safmn list`.
        scale: 2, 3 or 4.
        settings: the `training` section of a specification; patches have `patch` LR pixels a side.
        form: as for `predict_details`; training runs "fused".

    Returns:
        In bytes `peak`, `weights`, `gradients`, `optimiser` (its state, such as Adam's moments), `ema`, `batch`, and
        `activations` (what else is live at the peak: kept for backward, and temporaries); `layer`, `operation` and
        `form` as for `predict_details`; `remark` where a loss or an optimiser of a user's own had to be left out.

    Raises:
        UserError: an empty batch, a patch below 8 pixels, or a network without weights to train.
    """
    batch, patch = settings["batch"], settings["patch"]
    if batch < 1:
        raise UserError(f"a batch of {batch} patches cannot be trained on: give 1 or more")
    check_size(patch, patch)
    network = _build(name, scale, form)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{name} has no weights to train: only its inference can be predicted")
    channels = networks.info(name).channels
    settings, remark = fit_for_meta(partial(_build, name, scale, form), channels, scale, settings)
    step = training_step(network, settings, torch.device("meta"))
    dtype = torch.uint8 if channels == 3 else torch.float64  # Y is not rounded: see `safmn.training.luma`
    lr, hr = (torch.empty(batch, channels, side, side, dtype=dtype, device="meta") for side in (patch, patch * scale))
    tracker = PeakTracker("meta")
    parts = {
        "weights": tracker.hold(_weights(step.network)),
        "ema": tracker.hold(_weights(step.average.network)),
        "batch": tracker.hold([lr, hr]),
    }
    with tracker, tracker.layers_of(step.network, afterwards="loss and backward"):
        # The first step allocates the optimiser's state; the second one finds it in place.
        for iteration in range(2):
            step(iteration, lr, hr)
    kept = tree_leaves(list(step.optimiser.state.values()))
    parts["optimiser"] = _size(value for value in kept if isinstance(value, Tensor) and value.device.type == "meta")
    # A network may hold weights that this scale does not use: they get no gradient.
    parts["gradients"] = _size(parameter.grad for parameter in step.network.parameters() if parameter.grad is not None)
    return {
        "peak": tracker.peak,
        **parts,
        "activations": tracker.peak - sum(parts.values()),
        "layer": tracker.peak_layer,
        "operation": tracker.peak_operation,
        "form": form,
        **({"remark": remark} if remark else {}),
    }


def measure(
    name: str, scale: int, height: int, width: int, form: str = "reference", device: devices.Cuda | None = None
) -> dict[str, Any]:
    """Measure on CUDA what `predict_details` predicts, and compare the two.

    The first pass chooses its algorithms and may take memory to do so: its peak is `peak_first_pass`. `peak` is that of
    the second pass; the allocator's statistics are reset before each.

    Returns:
        `status` "measured", with `peak`, `peak_first_pass`, `weights`, `input`, `activations`, `predicted` (bytes),
        `difference_percent` (measured against predicted) and `flagged` (it exceeds 10 %: one of the two must be
        explained, cuDNN's workspaces for instance). Or `status` "out of memory", with `requested_lr` (the size),
        `predicted` and the device's own `message`: a result, not an error.

    Raises:
        UserError: no CUDA device, or a size out of range.
    """
    check_size(height, width)
    device = device or devices.Cuda()
    predicted = predict_details(name, scale, height, width, form)["peak"]
    record: dict[str, Any] = {"form": form, "requested_lr": {"height": height, "width": width}, "predicted": predicted}
    try:
        parts = _measure_passes(name, scale, height, width, form, device)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = as_line(error)
    else:
        difference = 100.0 * (parts["peak"] - predicted) / predicted
        verdict = {"difference_percent": round(difference, 2), "flagged": abs(difference) > MAX_DIFFERENCE}
        return {"status": "measured", **record, **parts, **verdict}
    # Outside the handler: the traceback there keeps every tensor of the failed pass alive.
    device.empty()
    return {"status": "out of memory", **record, "message": message}


def _measure_passes(name: str, scale: int, height: int, width: int, form: str, device: devices.Cuda) -> dict[str, int]:
    device.empty()
    before = device.allocated()  # nothing in a fresh process
    network = _build(name, scale, form).eval().to(device.torch_device)
    weights = device.allocated() - before
    image = torch.rand(1, networks.info(name).channels, height, width).to(device.torch_device)
    fixed = device.allocated() - before

    def one_pass() -> int:
        device.synchronise()
        device.reset_peak()
        with torch.no_grad():
            network(image)
        device.synchronise()
        return device.peak() - before

    first = one_pass()
    device.empty()
    peak = one_pass()
    return {
        "peak": peak,
        "peak_first_pass": first,
        "weights": weights,
        "input": fixed - weights,
        "activations": peak - fixed,
    }


def use_form(network: nn.Module, form: str) -> nn.Module:
    """Make a network compute LayerNorm step by step ("reference") or by torch's kernel ("fused"); change it in place.

    For networks that are measured: in both forms they take the same steps on a CPU as on a GPU.
    """
    if form not in FORMS:
        raise UserError(f"form {form!r} is not known: choose {' or '.join(FORMS)}")
    return acceleration.fuse(network) if form == "fused" else acceleration.plain(network)


def forms(name: str, scale: int) -> tuple[str, ...]:
    """Return the forms in which network `name` differs: both, or only "reference" where it has no LayerNorm."""
    return FORMS if has_layer_norm(networks.build(name, scale)) else FORMS[:1]


def has_layer_norm(network: nn.Module) -> bool:
    """Return whether a network has a LayerNorm, so that its forms differ."""
    return any(isinstance(module, LayerNorm2d) for module in network.modules())


def check_size(height: int, width: int) -> None:
    """Raise a UserError unless both sides of an LR image, in pixels, lie within 8 and 2^20."""
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f"an LR image of {width}x{height} pixels (width x height) is too small for the pooling levels: "
            f"give at least {SMALLEST_SIDE}x{SMALLEST_SIDE}"
        )
    if max(height, width) > MAX_SIDE:
        raise UserError(f"an LR image of {width}x{height} pixels is too large: give sides of at most {MAX_SIDE:,}")


class PeakTracker(TorchDispatchMode):
    """Follows the storages that operations create on one kind of device, and keeps the peak of what is live.

    Args:
        device_type: "meta" or "cpu".

    Attributes:
        live: bytes in live storages now, each rounded up to 512.
        peak: highest `live` so far, in bytes.
        peak_layer: path of the module, or name of the phase, that ran at the peak.
        peak_operation: torch's name of the operation at the peak.
    """

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type
        self.peak = 0
        self.peak_layer = self.peak_operation = ""
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self._phase = ""  # what runs outside of all modules
        self._running: list[str] = []

    @property
    def live(self) -> int:
        """Bytes in live storages now."""
        self._storages = {key: value for key, value in self._storages.items() if not value[0].expired()}
        return sum(size for _, size in self._storages.values())

    def hold(self, tensors: Iterable[Tensor]) -> int:
        """Count tensors that exist already; return the bytes that they add."""
        before = self.live
        self._remember(tensors)
        after = self.live
        self.peak = max(self.peak, after)
        return after - before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._remember(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        live = self.live
        if live > self.peak:
            self.peak, self.peak_operation = live, str(func.overloadpacket)
            self.peak_layer = self._running[-1] if self._running else self._phase
        return result

    @contextmanager
    def layers_of(self, network: nn.Module, afterwards: str = "") -> Iterator[None]:
        """Know which module of `network` is running, within the context; `afterwards` names what follows its pass."""

        def end_pass(*_: object) -> None:
            self._phase = afterwards

        with network.register_forward_hook(end_pass), running.paths(network) as self._running:
            yield

    def _remember(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if tensor.device.type == self.device_type:
                storage = tensor.untyped_storage()
                # A weak reference keeps the address from being used again, so it identifies the storage. The size is
                # read each time, since an operation may resize its output.
                reference = StorageWeakRef(storage)
                self._storages[reference.cdata] = (reference, _rounded(storage.nbytes()))


def _rounded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(_rounded(tensor.untyped_storage().nbytes()) for tensor in tensors)


def _weights(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _build(name: str, scale: int, form: str) -> nn.Module:
    return use_form(networks.build(name, scale), form)
