"""Pictures and folders that the tests of this package make."""

from pathlib import Path

import numpy as np

from safmn.data import bicubic, images, layouts, pairs


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise: uint8 height x width x 3."""
    return np.random.default_rng([seed, height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def find(folder: Path, scale: int) -> list[pairs.Pair]:
    """The pairs of a folder."""
    return list(layouts.survey(folder, scale).pairs)


def read_pair(pair: pairs.Pair, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """LR and HR of a pair."""
    loaded = pairs.load(pair, scale)
    return loaded.lr, loaded.hr


def edsr_folder(folder: Path, sizes: dict[str, tuple[int, int]], scale: int | None = None) -> Path:
    """A folder in EDSR's layout: HR images of these sizes, LR ones too if a scale is given."""
    for seed, (name, size) in enumerate(sizes.items()):
        hr = picture(*size, seed)
        images.write(folder / "HR" / f"{name}.png", hr)
        if scale:
            images.write(folder / f"LR_bicubic/X{scale}" / f"{name}x{scale}.png", bicubic.downscale(hr, scale))
    return folder


def check_message(error: Exception, *parts: str) -> None:
    """A message to the user is one line and names what it is about."""
    message = str(error)
    assert "\n" not in message
    assert all(part in message for part in parts), message


ODD_NAMES = ["two words", "it's", 'say "cheese"', "größe 画像", "$(touch x);&|*?[0]", "-dash", "a.b.c", "100%"]
