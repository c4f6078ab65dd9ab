"""Random generators: seeded from the run's seed, saved with its state."""

import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the generators that initial weights, and layers of a user's own, draw from.

    Training patches do not use them: they depend on seed and iteration only.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - a user's module may draw from the old global generator
    torch.manual_seed(seed)


def state() -> dict[str, Any]:
    """Return the generators' states as tensors and plain data, which `torch.load(weights_only=True)` accepts."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        # Reading it would create a CUDA context, also for a run on the CPU.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],  # type: ignore[attr-defined]  # legacy form
    }


def restore(saved: dict[str, Any]) -> None:
    """Set the generators to what `state` returned."""
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] and len(saved["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(saved["cuda"])
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
