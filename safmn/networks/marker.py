"""Keeps other tools from reading a variant of SAFMN as SAFMN.

Tools that open a SAFMN file (spandrel, chaiNNer) know it by its keys and take width, depth and scale from its
shapes. A variant that has the same keys and computes something else (without the product of Eq. (3), with another
pooling or activation) would be read as SAFMN, and give wrong pictures without a word. Its file therefore carries one
tensor more, whose key names the variant: a strict loader refuses that key, `safmn.networks.load_weights` knows it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from safmn import networks
from safmn.errors import UserError

PREFIX = "this_is_not_safmn_but."
SIZES = ((16, 24), (13, 19))


def marked(state: Mapping[str, Tensor], name: str, scale: int) -> dict[str, Tensor]:
    """`state`, with a marker where other tools would read the network `name` as SAFMN and compute something else."""
    if "to_feat.weight" not in state or not _misread(name, scale, state):
        return dict(state)
    return {**state, PREFIX + name: torch.ones(1)}


def taken_off(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """`state` without markers, and the networks that these name."""
    plain = {key: tensor for key, tensor in state.items() if not key.startswith(PREFIX)}
    return plain, tuple(key.removeprefix(PREFIX) for key in state if key.startswith(PREFIX))


def _misread(name: str, scale: int, state: Mapping[str, Tensor]) -> bool:
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                network = networks.build(name, scale)
                plain = _as_others_build_it(state, scale)
        except UserError:
            return False  # the name of no network of this project: nothing can be said about it
        if plain is None or _shapes(state) != _shapes(plain.state_dict()):
            return False
        if _shapes(state) != _shapes(network.state_dict()):
            return False
        return not _compute_alike(networks.build(name, scale), _as_others_build_it(state, scale))


def _as_others_build_it(state: Mapping[str, Tensor], scale: int) -> nn.Module | None:
    """The SAFMN that other tools make of a file's shapes; None where they do not take it for one."""
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
    """Whether two networks give the same pictures with the same weights, on sizes that 8 divides and that it does not.

    In float64, where another order of the same sums is far below the tolerance. What cannot be run is taken to differ.
    """
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn(tensor.shape, generator=generator, dtype=torch.float64).mul_(0.3)
        if tensor.is_floating_point()
        else tensor
        for key, tensor in other.state_dict().items()
    }
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # a tenth of a second; on a busy machine threads that wait for each other take seconds
        pictures = []
        for network in (one, other):
            network.double().eval().load_state_dict(state)
            generator.manual_seed(1)
            images = [torch.rand(1, 3, *size, generator=generator, dtype=torch.float64) for size in SIZES]
            pictures.append([network(image) for image in images])
    except Exception:
        return False
    finally:
        torch.set_num_threads(threads)
    return all(
        mine.shape == theirs.shape and bool((mine - theirs).abs().max() <= 1e-6 * theirs.abs().max())
        for mine, theirs in zip(*pictures, strict=True)
    )
