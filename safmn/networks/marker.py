"""Marks files of SAFMN's variants that other tools would read as SAFMN itself.

Tools that open a SAFMN file (spandrel, chaiNNer) recognise it by its keys and take width, depth and scale from its
shapes. A variant with the same keys and another computation (no product in Eq. (3), another pooling or activation)
would be read as SAFMN and give wrong images without a message. So its file carries one tensor more, whose key names the
variant: a strict loader refuses that key, `safmn.networks.load_weights` accepts it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from safmn import networks
from safmn.errors import UserError

PREFIX = "this_is_not_safmn_but."
SIZES = ((16, 24), (13, 19))
"""Heights and widths on which two networks are compared: multiples of 8, and not."""


def marked(state: Mapping[str, Tensor], name: str, scale: int) -> dict[str, Tensor]:
    """Return `state`, plus a marker if other tools would read the network `name` as SAFMN and compute other values."""
    if "to_feat.weight" not in state or not _misread(name, scale, state):
        return dict(state)
    return {**state, PREFIX + name: torch.ones(1)}


def taken_off(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return `state` without markers, and the networks that they name."""
    plain = {key: tensor for key, tensor in state.items() if not key.startswith(PREFIX)}
    return plain, tuple(key.removeprefix(PREFIX) for key in state if key.startswith(PREFIX))


def _misread(name: str, scale: int, state: Mapping[str, Tensor]) -> bool:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                network, plain = networks.build(name, scale), _as_others_build_it(state, scale)
        except UserError:
            return False  # the name of no network of this project: nothing can be said about it
        if plain is None or not _shapes(state) == _shapes(plain.state_dict()) == _shapes(network.state_dict()):
            return False
        return not _compute_alike(networks.build(name, scale), plain.to_empty(device="cpu"))


def _as_others_build_it(state: Mapping[str, Tensor], scale: int) -> nn.Module | None:
    """Build the SAFMN that other tools make of a file's shapes; None if they do not take it for one."""
    from safmn.networks.safmn import SAFMN

    blocks = {key.split(".")[1] for key in state if key.startswith("feats.")}
    hidden = state.get("feats.0.ccm.ccm.0.weight")
    dim = len(state["to_feat.weight"])
    if hidden is None or not blocks or dim % 4:
        return None
    # Half a channel more, since int(dim x expansion) rounds down.
    return SAFMN(scale, dim=dim, n_blocks=len(blocks), expansion=(len(hidden) + 0.5) / dim)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, bool]]:
    return {key: (tensor.shape, tensor.is_floating_point()) for key, tensor in state.items()}


@torch.no_grad()
def _compute_alike(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks compute the same images from the same weights; False if one of them cannot run.

    In float64, where another order of the same sums is far below the tolerance.
    """
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn(tensor.shape, generator=generator, dtype=torch.float64).mul_(0.3)
        if tensor.is_floating_point()
        else tensor
        for key, tensor in one.state_dict().items()
    }
    images = [torch.rand(1, 3, *size, generator=generator, dtype=torch.float64) for size in SIZES]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # a tenth of a second; on a busy machine threads that wait for each other take seconds
        for network in (one, other):
            network.double().eval().load_state_dict(state)
        pairs = [(one(image), other(image)) for image in images]
    except Exception:
        return False
    finally:
        torch.set_num_threads(threads)
    return all(a.shape == b.shape and bool((a - b).abs().max() <= 1e-6 * b.abs().max()) for a, b in pairs)
