"""Which module of a network is running."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn


@contextmanager
def paths(network: nn.Module) -> Iterator[list[str]]:
    """Yield the paths of the modules that are running, each inside the one before; "" is the network itself.

    The list changes while the network runs. After an exception, the last path is that of the module that raised it.
    """
    running: list[str] = []

    def leave(*_: object) -> None:
        running.pop()

    with ExitStack() as hooks:
        for path, module in network.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                hooks.enter_context(module.register_forward_pre_hook(lambda *_, path=path: running.append(path)))
                hooks.enter_context(module.register_forward_hook(leave))
        yield running
