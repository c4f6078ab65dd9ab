"""Every random draw comes from the run's seed, and the generators are part of the state."""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seeds the generators that initial weights (and a user's own layers) draw from.

    Training patches do not use them: their draw is a function of seed and iteration alone.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a user's module may draw from the old global generator
    torch.manual_seed(seed)


def state() -> dict[str, Any]:
    """The generators' states as tensors and plain data, which a safe loader accepts."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        # Asking a device that nothing was computed on would open a context there, for a run on the CPU, too.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
    }


def restore(saved: dict[str, Any]) -> None:
    """Puts the generators back to what `state` returned."""
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] and len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(saved["cuda"])
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
