"""What a network costs: parameters, FLOPs and activations; memory; time."""

from typing import Any

from safmn import lazy


def __getattr__(name: str) -> Any:
    """Import a module when it is first used."""
    return lazy.submodule(__name__, name)
