"""Parameters that a network of one's own may have and that cannot be used here, named in one line."""

from torch import nn
from torch.nn.parameter import is_lazy

from safmn.errors import UserError


def check_sized(network: nn.Module, where: object) -> None:
    """Raises UserError, naming `where` it is defined and the module, where a lazy module has no size yet."""
    for name, module in network.named_modules():
        if any(is_lazy(each) for each in (*module.parameters(recurse=False), *module.buffers(recurse=False))):
            raise UserError(
                f"{where}: {name} is a lazy module ({type(module).__name__}), whose parameters have no size until it "
                "runs: give it its input size"
            )


def check_real(network: nn.Module, where: object) -> None:
    """Raises UserError, naming `where` it is defined and the module, where a parameter or buffer is complex.

    Neither the fused Adam nor the weight files of this project take complex numbers.
    """
    for name, module in network.named_modules():
        tensors = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
        for own, tensor in tensors:
            if tensor.is_complex():
                raise UserError(
                    f"{where}: {own} of {name} ({type(module).__name__}) is complex, which cannot be trained here: "
                    "keep it as real numbers, torch.view_as_real(...), and use torch.view_as_complex in forward()"
                )
