"""What a study writes, in bytes: packed datasets, and each run's states, weights, history and scalars."""

import io
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from safmn import networks
from safmn.data import catalogue
from safmn.data.packed import PIXELS
from safmn.planning.sizes import Sizes
from safmn.study import Study
from safmn.training import randomness, state
from safmn.training.history import COLUMNS
from safmn.training.step import TrainStep

HISTORY_ROW = 95  # bytes of a line of history.csv: an iteration and five numbers with every digit
STATE_ROW = 70  # of the same row in a saved state
SCALAR = 55  # of one value in an event file: its name, step and value in a framed record
WEIGHT_FILES = 3  # best, last, last_raw


def of_run(specification: dict[str, Any], run_settings: dict[str, Any]) -> dict[str, int]:
    """Bytes that a finished run leaves: `states` (two generations), `weights`, `history`, `scalars`.

    A state is serialised to be measured, from fresh weights: the bytes do not depend on their values. What is written
    is a little less, since a state keeps weights once that are best and sound alike. While one is saved there are
    three.
    """
    settings = specification["training"]
    step = TrainStep(networks.build(specification["network"], specification["scale"]), settings, torch.device("cpu"))
    for parameter in step.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step.optimiser.step()  # makes Adam's moments
    weights = step.network.state_dict()
    kept = [{key: value.clone() for key, value in weights.items()} for _ in range(3)]
    content = {"step": step.state(), "randomness": randomness.state(), "best, sound (averaged and not)": kept}
    rows = history_rows(settings, run_settings)
    validations = math.ceil(settings["iterations"] / settings["validate_every"])
    return {
        "states": state.GENERATIONS * (_serialised(content) + rows * STATE_ROW),
        "weights": WEIGHT_FILES * _serialised(weights),
        "history": rows * HISTORY_ROW,
        "scalars": (rows * (len(COLUMNS) - 2) + validations) * SCALAR,
    }


def history_rows(settings: dict[str, Any], run_settings: dict[str, Any]) -> int:
    """Lines of a run's history: one each `log_every` iterations, one at each validation."""
    total, log, validate = settings["iterations"], run_settings["log_every"], settings["validate_every"]
    due = total // log + total // validate - total // math.lcm(log, validate)
    return due + (total % log != 0 and total % validate != 0)


def _serialised(value: Any) -> int:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getbuffer().nbytes


def packs(study: Study, sizes: Sizes) -> list[dict[str, Any]]:
    """Every packed store that the study needs: dataset, scale, bytes, whether it is there, where its size is from.

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
                "present": (sizes.pack(name, scale) / PIXELS).exists(),
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
