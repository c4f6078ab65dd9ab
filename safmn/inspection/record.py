"""The inspection of one network: attribution, features and crops together, as a JSON of numbers and an NPZ of pictures.

The numbers are `attribution` and `features` (of the first scene) and `crops` (of each scene), each with its scene. The
arrays are uint8 pictures and float32 maps: `attribution`, `attribution_lr`; `features_lr`, `features_b` to
`features_g`; for crop N `cropN_sr`, `cropN_hr`, `cropN_overview` (the whole HR, made smaller).
"""

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

from safmn.data import images
from safmn.errors import UserError
from safmn.files import atomic, read_json, write_json
from safmn.inspection import attribution, crops, features
from safmn.inspection.scenes import Scene
from safmn.quality.evaluation import device_of

DECADES = 3  # of an attribution map that are told apart in a picture
OVERVIEW = 320  # pixels of the longer side of the picture that shows where a crop is
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Settings:
    """How to inspect; sizes in pixels, of SR (`window`) or of LR (`patch`, `sigma`). See `attribution`, `features`."""

    window: int = 16
    patch: int = 64
    sigma: float = 1.2
    steps: int = 24
    block: int = 0


@dataclass
class Inspection:
    """Numbers (plain data) and arrays by name, as the module describes them."""

    numbers: dict[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


def inspect(network: nn.Module, scenes: Sequence[Scene], channels: str, settings: Settings) -> Inspection:
    """Inspect one network on its device; the first scene serves Figures 2 and 5, all serve Figure 6.

    Args:
        network: with its weights, in eval mode.
        scenes: at least one.
        channels: "RGB" or "Y", what the network takes.
        settings: sizes and numbers of steps.
    """
    attributed, attribution_arrays = _attribute(network, scenes[0], channels, settings)
    featured, feature_arrays = _features(network, scenes[0], settings)
    numbers: dict[str, Any] = {
        "channels": channels,
        "settings": asdict(settings),
        "attribution": attributed,
        "features": featured,
        "crops": [],
    }
    inspection = Inspection(numbers, attribution_arrays | feature_arrays)
    for number, scene in enumerate(scenes):
        crop = crops.enlarge(network, scene, channels)
        numbers["crops"].append(
            _place(scene) | {"psnr": _plain(crop.psnr), "psnr_crop": _plain(crop.psnr_crop), "size": scene.crop.size}
        )
        inspection.arrays[f"crop{number}_sr"] = crop.sr
        inspection.arrays[f"crop{number}_hr"] = np.ascontiguousarray(scene.crop.of(scene.hr))
        inspection.arrays[f"crop{number}_overview"] = smaller(scene.hr, OVERVIEW)
    return inspection


def _attribute(network: nn.Module, scene: Scene, channels: str, settings: Settings) -> tuple[dict[str, Any], Arrays]:
    result = attribution.attribute(
        network, scene, channels, settings.window, settings.patch, settings.sigma, settings.steps
    )
    numbers = {
        "diffusion_index": _plain(result.diffusion_index),
        "detector": result.detector,
        "baseline": result.baseline,
        "gap": _plain(result.gap),
        "window": asdict(result.window),
        "patch_at": list(result.origin),
    }
    return _place(scene) | numbers, {"attribution": result.map.astype(np.float32), "attribution_lr": result.lr}


def _features(network: nn.Module, scene: Scene, settings: Settings) -> tuple[dict[str, Any] | None, Arrays]:
    blocks = len(features.safms(network))
    if not blocks:
        return None, {}
    lr = torch.from_numpy(scene.lr.transpose(2, 0, 1).copy())[None].to(device_of(network))
    path, panels = features.capture(network, lr, min(settings.block, blocks))
    numbers = {
        "module": path,
        "block": min(settings.block, blocks) or blocks,
        "blocks": blocks,
        "channels": {panel: len(tensor) for panel, tensor in panels.items()},
    }
    maps: Arrays = {f"features_{panel}": features.shown(tensor).numpy() for panel, tensor in panels.items()}
    return _place(scene) | numbers, {"features_lr": scene.lr} | maps


def _place(scene: Scene) -> dict[str, Any]:
    height, width = scene.hr.shape[:2]
    at = {"left": scene.crop.left, "top": scene.crop.top, "hr_width": width, "hr_height": height}
    return {"dataset": scene.dataset, "image": scene.image, **at}


def _plain(value: float) -> float | None:
    """Return None for what JSON does not have: the infinite PSNR of equal images, and an index that is not defined."""
    return value if math.isfinite(value) else None


def smaller(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Reduce H x W x 3 by a whole factor (means of blocks) until no side is longer; the last rows may be cut off."""
    factor = math.ceil(max(image.shape[:2]) / max_side)
    height, width = (side // factor for side in image.shape[:2])
    if not height or not width:
        return image
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    means: NDArray[np.uint8] = np.rint(blocks.mean((1, 3))).astype(np.uint8)
    return means


def write(file: Path | str, inspection: Inspection) -> None:
    """Write FILE.json, and before it the NPZ beside it; the same inspection gives the same bytes."""
    file = Path(file)
    with atomic(file.with_suffix(".npz")) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **inspection.arrays)
    write_json(file, inspection.numbers)


def write_pictures(folder: Path | str, inspection: Inspection) -> list[Path]:
    """Write each array as a PNG into a folder: images as they are, maps brighter where their values are larger.

    The attribution map is drawn by its magnitude, on the logarithmic scale of Figure 2: white is the largest value,
    black a thousandth of it or less. A feature map goes from its smallest to its largest value.
    """
    folder = Path(folder)
    files = []
    for name, array in inspection.arrays.items():
        if array.ndim == 2:
            values = array.astype(np.float64)
            if name == "attribution":
                size = np.abs(values) / (np.abs(values).max() or 1)
                share = 1 + np.log10(np.maximum(size, 10.0**-DECADES)) / DECADES
            else:
                share = (values - values.min()) / ((values.max() - values.min()) or 1)
            grey = np.rint(255 * share).astype(np.uint8)
            array = np.repeat(grey[..., None], 3, axis=2)
        files.append(folder / f"{name}.png")
        images.write(files[-1], array)
    return files


def check(inspection: Inspection) -> None:
    """Raise a UserError unless everything that a figure draws is present, in the right shapes."""
    try:
        numbers, arrays = inspection.numbers, inspection.arrays
        lr = arrays["attribution_lr"]
        valid = arrays["attribution"].shape == lr.shape[:2] and lr.shape[2] == 3
        for key in ("detector", "baseline"):
            float(numbers["attribution"][key])
        for key in ("diffusion_index", "gap"):
            float(numbers["attribution"][key] or 0)
        _ = [numbers["attribution"]["window"][key] + 0 for key in ("left", "top", "size")]
        if numbers["features"] is not None:
            height, width = arrays["features_lr"].shape[:2]
            shapes = [arrays[f"features_{panel}"].shape for panel in numbers["features"]["channels"]]
            valid &= all(shape == (height, width) for shape in shapes) and "module" in numbers["features"]
        for number, crop in enumerate(numbers["crops"]):
            sides = [arrays[f"crop{number}_{kind}"].shape for kind in ("sr", "hr")]
            valid &= sides == [(crop["size"], crop["size"], 3)] * 2 and arrays[f"crop{number}_overview"].ndim == 3
            _ = [float(crop[key] or 0) for key in ("psnr", "psnr_crop", "left", "top", "hr_width", "hr_height")]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f"an inspection lacks something ({type(error).__name__}): make it again") from error
    if not valid:
        raise UserError("an inspection holds arrays of other sizes than it says: make it again")


def read(file: Path | str) -> Inspection:
    """Read what `write` wrote, without unpickling; UserError where either file is missing or damaged."""
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
