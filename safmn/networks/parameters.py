"""Checks of parameters that a user's network may have and that this project cannot use."""

from torch import nn
from torch.nn.parameter import is_lazy

from safmn.errors import UserError


def check_sized(network: nn.Module, where: object) -> None:
    """Raise UserError if `network`, which is defined in `where`, has a lazy module without a size."""
    for name, module in network.named_modules():
        if any(is_lazy(tensor) for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
            raise UserError(
                f"{where}: {name} is a lazy module ({type(module).__name__}), whose parameters have no size until it "
                "runs: give it its input size"
            )


def check_real(network: nn.Module, where: object) -> None:
    """Raise UserError if `network`, which is defined in `where`, has a complex parameter or buffer.

    Neither the fused Adam nor the weight files of this project support complex numbers.
    """
    for name, module in network.named_modules():
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for own, tensor in tensors:
            if tensor.is_complex():
                raise UserError(
                    f"{where}: {own} of {name} ({type(module).__name__}) is complex, which cannot be trained here: "
                    "keep it as real numbers, torch.view_as_real(...), and use torch.view_as_complex in forward()"
                )
