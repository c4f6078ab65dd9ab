"""What a study writes, in bytes: packed datasets, and each run's states, weights, history and scalars."""

import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from safmn import layout, networks
from safmn.data import catalogue
from safmn.planning.sizes import Sizes
from safmn.schema import RunSettings
from safmn.study import Study
from safmn.training import state
from safmn.training.history import COLUMNS
from safmn.training.kept import Kept
from safmn.training.step import TrainStep

SAMPLE = 1000  # rows of a history from which longer ones are projected
SCALAR = 55  # bytes of one value in an event file: its name, step and value in a framed record


def of_run(specification: dict[str, Any], run_settings: RunSettings) -> dict[str, int]:
    """Bytes that a finished run leaves: `states` (two generations), `weights`, `history`, `scalars`.

    What a run keeps after a real step on the meta device is serialised with zeros for values, of which the bytes do not
    depend. What is written is a little less, since a state keeps weights once that are best and sound alike. While one
    is saved there are three.
    """
    settings, scale = specification["training"], specification["scale"]
    step = TrainStep(networks.build(specification["network"], scale), settings, torch.device("meta"))
    patches = (torch.empty(1, 3, side, side, dtype=torch.uint8, device="meta") for side in (8, 8 * scale))
    step(0, *patches)  # makes the optimiser's moments
    kept = Kept(step)
    kept.best["weights"], _ = kept.weights()  # not the sound ones
    empty = len(_state(kept))
    rows = history_rows(settings, run_settings)
    sample = min(rows, SAMPLE)
    validations = math.ceil(settings["iterations"] / settings["validate_every"])
    for row in range(sample):
        psnr = 100 / 3 if row % max(1, rows // validations) == 0 else None
        values = dict.fromkeys(COLUMNS[1:-1], 0.1 / 3)
        kept.history.add(iteration=settings["iterations"], **values, validation_psnr_rgb=psnr)
    return {
        "states": state.GENERATIONS * (empty + (len(_state(kept)) - empty) * rows // sample),
        "weights": sum(len(safetensors.torch.save(_zeros(each))) for each in (*kept.weights(), kept.best["weights"])),
        "history": len(kept.history.text()) * rows // sample,
        "scalars": (rows * (len(COLUMNS) - 2) + validations) * SCALAR,
    }


def history_rows(settings: dict[str, Any], run_settings: RunSettings) -> int:
    """Lines of a run's history: one each `log_every` iterations, one at each validation."""
    total, log, validate = settings["iterations"], run_settings.log_every, settings["validate_every"]
    due = total // log + total // validate - total // math.lcm(log, validate)
    return due + (total % log != 0 and total % validate != 0)


def _state(kept: Kept) -> bytes:
    return state.serialised("0" * 64, 0, _zeros(kept.state()))


def _zeros(value: Any) -> Any:
    """The same with tensors that have data."""
    return tree_map(lambda each: torch.zeros(each.shape, dtype=each.dtype) if isinstance(each, Tensor) else each, value)


def packed(study: Study, sizes: Sizes) -> list[dict[str, Any]]:
    """Every packed dataset that the study needs: name, scale, bytes, whether it is there, where its size is from.

    Training and validation images at the scales that are trained, test images at all; `bytes` is None where nothing
    is known about a dataset.
    """
    found = []
    for name, scale in study.packed_datasets():
        size = sizes.dataset(name, scale)
        found.append(
            {
                "dataset": name,
                "scale": scale,
                "images": len(size.shapes),
                "bytes": size.bytes if size.shapes else None,
                "present": (study.results / layout.packed(name, scale) / layout.PIXELS).exists(),
                "origin": size.origin,
                "remark": size.remark,
            }
        )
    return found


def downloads(names: list[str], scales: Iterable[int] = ()) -> dict[str, int | None]:
    """Archive -> bytes (None if not known) of what `safmn fetch` takes for datasets' HR, and LR at these scales."""
    found: dict[str, int | None] = {}
    for name in names:
        kinds = {catalogue.HR, *scales}
        for archive in catalogue.archives_of(name, kinds):
            held = kinds & set(archive.holds[name])
            if held:
                found[archive.remote.name] = archive.about
            kinds -= held
    return found


def free(folder: Path) -> int:
    """Bytes free where `folder` is, or would be made."""
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    return shutil.disk_usage(existing).free
