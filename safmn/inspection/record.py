"""One network looked into: attribution, features and crops together, as a JSON of numbers and an NPZ of pictures."""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from safmn.errors import UserError
from safmn.files import atomic, read_json, write_json
from safmn.inspection import attribution, crops, features
from safmn.inspection.scenes import Scene
from safmn.quality.evaluation import device_of

OVERVIEW = 320  # pixels of the longer side of the picture that shows where a crop lies


@dataclass(frozen=True)
class Settings:
    """How to look; sizes in pixels, of SR (`window`) or of LR (`patch`, `sigma`)."""

    window: int = 16
    patch: int = 64
    sigma: float = 1.2
    steps: int = 24
    block: int = 0


@dataclass
class Inspection:
    """`numbers` is plain data; `arrays` name -> array, uint8 pictures and float32 maps.

    Numbers: `attribution` (first scene), `features` (first scene), `crops` (each scene), each with its scene.
    Arrays: `attribution`, `attribution_lr`; `features_lr`, `features_b` to `features_g`; for crop N `cropN_sr`,
    `cropN_hr`, `cropN_overview` (the whole HR, made smaller).
    """

    numbers: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray] = field(default_factory=dict)


def inspect(network: nn.Module, scenes: Sequence[Scene], channels: str, settings: Settings) -> Inspection:
    """Looks into one network, on the device where its weights lie; the first scene serves Figures 2 and 5, all serve 6.

    Args:
        network: with its weights, in eval mode.
        scenes: at least one.
        channels: "RGB" or "Y", what the network takes.
    """
    found = Inspection({"channels": channels, "settings": asdict(settings)})
    first = scenes[0]
    _attribute(found, network, first, channels, settings)
    _features(found, network, first, settings)
    found.numbers["crops"] = []
    for number, scene in enumerate(scenes):
        crop = crops.enlarge(network, scene, channels)
        found.numbers["crops"].append(
            _where(scene) | {"psnr": _plain(crop.psnr), "psnr_crop": _plain(crop.psnr_crop), "size": scene.crop.size}
        )
        found.arrays[f"crop{number}_sr"] = crop.sr
        found.arrays[f"crop{number}_hr"] = np.ascontiguousarray(scene.crop.of(scene.hr))
        found.arrays[f"crop{number}_overview"] = smaller(scene.hr, OVERVIEW)
    return found


def _attribute(found: Inspection, network: nn.Module, scene: Scene, channels: str, settings: Settings) -> None:
    result = attribution.attribute(
        network, scene, channels, settings.window, settings.patch, settings.sigma, settings.steps
    )
    found.numbers["attribution"] = _where(scene) | {
        "diffusion_index": _plain(result.diffusion_index),
        "detector": result.detector,
        "baseline": result.baseline,
        "gap": _plain(result.gap),
        "window": asdict(result.window),
        "patch_at": list(result.origin),
    }
    found.arrays["attribution"] = result.map.astype(np.float32)
    found.arrays["attribution_lr"] = result.lr


def _features(found: Inspection, network: nn.Module, scene: Scene, settings: Settings) -> None:
    lr = torch.from_numpy(scene.lr.transpose(2, 0, 1).copy())[None].to(device_of(network))
    blocks = len(features.safms(network))
    if not blocks:
        found.numbers["features"] = None
        return
    path, panels = features.capture(network, lr, min(settings.block, blocks))
    found.numbers["features"] = _where(scene) | {
        "module": path,
        "block": min(settings.block, blocks) or blocks,
        "blocks": blocks,
        "channels": {panel: len(tensor) for panel, tensor in panels.items()},
    }
    found.arrays["features_lr"] = scene.lr
    for panel, tensor in panels.items():
        found.arrays[f"features_{panel}"] = features.shown(tensor).numpy()


def _where(scene: Scene) -> dict[str, Any]:
    height, width = scene.hr.shape[:2]
    at = {"left": scene.crop.left, "top": scene.crop.top, "hr_width": width, "hr_height": height}
    return {"dataset": scene.dataset, "image": scene.image, **at}


def _plain(value: float) -> float | None:
    """JSON knows neither the infinite PSNR of equal images nor an index that is not defined."""
    return value if math.isfinite(value) else None


def smaller(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """H x W x 3, reduced by a whole factor (means of blocks) until no side is longer; the last rows may go."""
    factor = math.ceil(max(image.shape[:2]) / longest)
    height, width = (side // factor for side in image.shape[:2])
    if not height or not width:
        return image
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    return np.rint(blocks.mean((1, 3))).astype(np.uint8)


def write(file: Path | str, found: Inspection) -> None:
    """Writes FILE.json, and before it the NPZ beside it; the same inspection gives the same bytes."""
    file = Path(file)
    with atomic(file.with_suffix(".npz")) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **found.arrays)
    write_json(file, found.numbers)


def check(found: Inspection) -> None:
    """UserError unless everything is there that a figure draws, in the right shapes."""
    try:
        numbers, arrays = found.numbers, found.arrays
        lr = arrays["attribution_lr"]
        sound = arrays["attribution"].shape == lr.shape[:2] and lr.shape[2] == 3
        for key in ("detector", "baseline"):
            float(numbers["attribution"][key])
        for key in ("diffusion_index", "gap"):
            float(numbers["attribution"][key] or 0)
        _ = [numbers["attribution"]["window"][key] + 0 for key in ("left", "top", "size")]
        if numbers["features"] is not None:
            height, width = arrays["features_lr"].shape[:2]
            shapes = [arrays[f"features_{panel}"].shape for panel in numbers["features"]["channels"]]
            sound &= all(shape == (height, width) for shape in shapes) and "module" in numbers["features"]
        for number, crop in enumerate(numbers["crops"]):
            sides = [arrays[f"crop{number}_{kind}"].shape for kind in ("sr", "hr")]
            sound &= sides == [(crop["size"], crop["size"], 3)] * 2 and arrays[f"crop{number}_overview"].ndim == 3
            _ = [float(crop[key] or 0) for key in ("psnr", "psnr_crop", "left", "top", "hr_width", "hr_height")]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f"an inspection lacks something ({type(error).__name__}): make it again") from error
    if not sound:
        raise UserError("an inspection holds arrays of other sizes than it says: make it again")


def read(file: Path | str) -> Inspection:
    """Reads what `write` wrote; unpickles nothing. UserError where either file is missing or damaged."""
    file = Path(file)
    numbers = read_json(file)
    arrays = file.with_suffix(".npz")
    try:
        with np.load(arrays, allow_pickle=False) as stored:
            return Inspection(numbers, {name: stored[name] for name in stored.files})
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{arrays} is missing or damaged ({type(error).__name__}): delete it and make it again"
        ) from error
