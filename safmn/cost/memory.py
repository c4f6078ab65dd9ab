"""Peak memory of inference and of a training step: predicted without a GPU, or measured on one (Table 2, #GPU Mem.).

The prediction runs the network on the meta device, where tensors have shapes but no data, and follows every storage
from creation to release as CUDA's allocator would: a live storage counts its size rounded up to 512 bytes, views share
their storage, an in-place operation makes none, and a tensor that a Python variable still holds is live. Weights,
buffers and input are included. Not included: workspaces of cuDNN and cuBLAS, temporaries inside one kernel, and the
CUDA context, which `torch.cuda.max_memory_allocated` does not count either.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from safmn import networks
from safmn.device import description as devices
from safmn.device.memory import is_out_of_memory
from safmn.errors import UserError
from safmn.networks import acceleration
from safmn.networks.safmn import LayerNorm2d
from safmn.training.step import TrainStep

BLOCK = 512  # bytes; CUDA's caching allocator rounds every allocation up to a multiple of it
SMALLEST_SIDE = 8  # LR pixels: SAFM pools to one eighth
LARGEST_SIDE = 2**20  # LR pixels: beyond it torch cannot count the bytes
FORMS = ("reference", "fused")
FLAGGED = 10.0  # percent between measurement and prediction, above which one of them must be explained

CONVENTION = (
    "peak of live tensor storage, each rounded up to 512 bytes; weights, buffers and input included; "
    "1 MiB = 2^20 bytes; float32, one image, eval mode without gradients"
)


def predict(name: str, scale: int, height: int, width: int) -> int:
    """Peak memory in bytes while network `name` enlarges one image of `height` x `width` LR pixels; needs no GPU.

    The network computes as its authors' code does (`form="reference"`), which is what Table 2 prints.
    """
    return predict_details(name, scale, height, width)["peak"]


def predict_details(name: str, scale: int, height: int, width: int, form: str = "reference") -> dict[str, Any]:
    """`predict` with its parts, in bytes: peak, weights, input, activations; and where the peak is.

    Args:
        form: "reference" computes LayerNorm step by step, as the authors do; "fused" by torch's kernel, as this
            project trains on a GPU. Networks without LayerNorm are the same in both.

    Returns:
        `activations` is what is live at the peak beyond weights and input; `layer` is the path of the module that runs
        at the peak ("" is the network itself) and `operation` torch's name of what it computes.

    Raises:
        UserError: `height` or `width` is below 8, or above 2^20.
    """
    check_size(height, width)
    network = _build(name, scale, form).eval().to("meta")
    image = torch.empty(1, networks.info(name).channels, height, width, device="meta")
    tracker = PeakTracker("meta")
    weights = tracker.hold(_weights(network))
    fixed = weights + tracker.hold([image])
    with torch.no_grad(), tracker, tracker.layers_of(network):
        network(image)
    return {
        "peak": tracker.peak,
        "weights": weights,
        "input": fixed - weights,
        "activations": tracker.peak - fixed,
        "layer": tracker.peak_layer,
        "operation": tracker.peak_operation,
        "form": form,
    }


def predict_training(name: str, scale: int, settings: dict[str, Any], form: str = "fused") -> dict[str, Any]:
    """Peak memory in bytes of one training step, so that a user sees whether a batch fits before submitting a job.

    The real step (`safmn.training.step`) runs on the meta device, with whatever a study's settings choose.

    Args:
        settings: the `training` section of a specification; its patches have `patch` LR pixels a side, times `scale`
            in HR.
        form: as for `predict_details`; training runs "fused".

    Returns:
        `peak`, `weights`, `gradients`, `optimiser` (Adam's moments), `ema` and `batch` in bytes; `activations` is what
        else is live at the peak (kept for backward, and temporaries); `layer` and `operation` say where the peak is.
    """
    batch, patch = settings["batch"], settings["patch"]
    if batch < 1:
        raise UserError(f"a batch of {batch} patches cannot be trained on: give 1 or more")
    check_size(patch, patch)
    network = _build(name, scale, form)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UserError(f"{name} has no weights to train: only its inference can be predicted")
    step = TrainStep(network, settings, torch.device("meta"))
    low, high = (
        torch.empty(batch, networks.info(name).channels, side, side, dtype=torch.uint8, device="meta")
        for side in (patch, patch * scale)
    )
    tracker = PeakTracker("meta")
    parts = {
        "weights": tracker.hold(_weights(step.network)),
        "ema": tracker.hold(_weights(step.average.network)),
        "batch": tracker.hold([low, high]),
    }
    with tracker, tracker.layers_of(step.network, afterwards="loss and backward"):
        # The first step allocates Adam's moments; from the second on, forward and backward find them in place.
        for iteration in range(2):
            step(iteration, low, high)
    parts["optimiser"] = _size(
        t for state in step.optimiser.state.values() for t in state.values() if t.device.type == "meta"
    )
    # A network may hold weights that this scale does not use: they get no gradient.
    parts["gradients"] = _size(parameter.grad for parameter in step.network.parameters() if parameter.grad is not None)
    return {
        "peak": tracker.peak,
        **parts,
        "activations": tracker.peak - sum(parts.values()),
        "layer": tracker.peak_layer,
        "operation": tracker.peak_operation,
        "form": form,
    }


def measure(
    name: str, scale: int, height: int, width: int, form: str = "reference", device: devices.Cuda | None = None
) -> dict[str, Any]:
    """Measures on CUDA what `predict_details` predicts, in bytes, and compares the two.

    Weights are measured apart from activations. The first pass finds its algorithms and may take memory to do so; its
    peak is `peak_first_pass`. `peak` is that of the second pass, the allocator's statistics reset before it.

    Args:
        device: where to measure; the CUDA device by default.

    Returns:
        `status` "measured", with `peak`, `peak_first_pass`, `weights`, `input`, `activations`, `predicted` (bytes),
        `difference_percent` (measured against predicted) and `flagged` (it exceeds 10 %: one of the two must be
        explained, cuDNN's workspaces for instance); or `status` "out of memory", with `requested_lr` (what was asked
        for), `predicted` and the device's own `message`: a result, not an error.

    Raises:
        UserError: no CUDA device, or `height` or `width` below 8 or above 2^20.
    """
    check_size(height, width)
    device = device or devices.Cuda()
    predicted = predict_details(name, scale, height, width, form)["peak"]
    record: dict[str, Any] = {"form": form, "requested_lr": {"height": height, "width": width}, "predicted": predicted}
    try:
        return {"status": "measured", **record, **_measure_passes(name, scale, height, width, form, device, predicted)}
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message = (str(error).splitlines() or [type(error).__name__])[0]
    # Outside the handler: the traceback there keeps every tensor of the failed pass alive.
    device.empty()
    return {"status": "out of memory", **record, "message": message}


def _measure_passes(
    name: str, scale: int, height: int, width: int, form: str, device: devices.Cuda, predicted: int
) -> dict[str, Any]:
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
    difference = 100.0 * (peak - predicted) / predicted
    return {
        "peak": peak,
        "peak_first_pass": first,
        "weights": weights,
        "input": fixed - weights,
        "activations": peak - fixed,
        "difference_percent": round(difference, 2),
        "flagged": abs(difference) > FLAGGED,
    }


def use_form(network: nn.Module, form: str) -> nn.Module:
    """Computes LayerNorm by the authors' written-out steps ("reference") or by torch's kernel ("fused"), in place.

    For networks that are measured: in both forms they take on a CPU the steps that they take on a GPU.
    """
    if form not in FORMS:
        raise UserError(f"form {form!r} is not known: choose {' or '.join(FORMS)}")
    acceleration.plain(network)
    return acceleration.fuse(network) if form == "fused" else network


def forms(name: str, scale: int) -> tuple[str, ...]:
    """The forms that make a difference to network `name`: both, or only "reference" where it has no LayerNorm."""
    return FORMS if has_layer_norm(networks.build(name, scale)) else FORMS[:1]


def has_layer_norm(network: nn.Module) -> bool:
    """Whether the forms make a difference to it."""
    return any(isinstance(module, LayerNorm2d) for module in network.modules())


def check_size(height: int, width: int) -> None:
    """UserError where an LR image of that size is too small for the pooling levels of SAFM, or absurdly large."""
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f"an LR image of {width}x{height} pixels (width x height) is too small for the pooling levels: "
            f"give at least {SMALLEST_SIDE}x{SMALLEST_SIDE}"
        )
    if max(height, width) > LARGEST_SIDE:
        raise UserError(f"an LR image of {width}x{height} pixels is too large: give sides of at most {LARGEST_SIDE:,}")


class PeakTracker(TorchDispatchMode):
    """Follows the storages that operations create on one kind of device, and keeps the peak of what is live.

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
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._path = [""]  # modules that are running, each within the one before

    @property
    def live(self) -> int:
        self._forget_released()
        return sum(size for _, size in self._live.values())

    def hold(self, tensors: Iterable[Tensor]) -> int:
        """Counts tensors that exist already; returns the bytes that they add."""
        before = self.live
        self._remember(tensors)
        after = self.live
        self.peak = max(self.peak, after)
        return after - before

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # What was released before this operation is forgotten here, so `live` is what stands while it runs.
        self._remember(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        live = self.live
        if live > self.peak:
            self.peak, self.peak_operation = live, str(func.overloadpacket)
            self.peak_layer = self._path[-1]
        return result

    @contextmanager
    def layers_of(self, network: nn.Module, afterwards: str = "") -> Iterator[None]:
        """Within it, the tracker knows which module of `network` is running; what it calls what comes `afterwards`."""
        hooks = [network.register_forward_hook(lambda *_: self._go_on(afterwards))]
        for path, module in network.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda *_, path=path: self._path.append(path)))
            hooks.append(module.register_forward_hook(lambda *_: self._leave()))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _leave(self) -> None:
        self._path.pop()

    def _go_on(self, phase: str) -> None:
        self._path[0] = phase

    def _remember(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if tensor.device.type == self.device_type:
                storage = tensor.untyped_storage()
                # A weak reference keeps the address from being used again, so it identifies the storage; the size is
                # read each time, since an operation may resize its output.
                reference = StorageWeakRef(storage)
                self._live[reference.cdata] = (reference, _rounded(storage.nbytes()))

    def _forget_released(self) -> None:
        for key in [key for key, (reference, _) in self._live.items() if reference.expired()]:
            del self._live[key]


def _rounded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(_rounded(tensor.untyped_storage().nbytes()) for tensor in tensors)


def _weights(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _build(name: str, scale: int, form: str) -> nn.Module:
    return use_form(networks.build(name, scale), form)
