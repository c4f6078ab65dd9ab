"""Bytes that a study writes: packed datasets, and states, weights, history and scalars of each run."""

from collections.abc import Iterable
from functools import partial
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
from safmn.training.kept import Kept
from safmn.training.rehearsal import fit_for_meta
from safmn.training.step import TrainStep

SCALAR = 55  # bytes of one value in a TensorBoard event file


def of_run(specification: dict[str, Any], run_settings: RunSettings) -> dict[str, int]:
    """Return the bytes that a finished run leaves: `states` (two generations), `weights`, `history`, `scalars`.

    The state of a real step on the meta device is serialised, with zeros in place of the values. The true size is a
    little smaller, since a state stores weights only once if they are best and latest. During a save there are three
    generations.
    """
    settings, scale = specification["training"], specification["scale"]
    build = partial(networks.build, specification["network"], scale)
    channels = networks.info(specification["network"]).channels
    settings, _ = fit_for_meta(build, channels, scale, settings)
    step = TrainStep(build(), settings, torch.device("meta"))
    patches = (torch.empty(1, channels, side, side, dtype=torch.uint8, device="meta") for side in (8, 8 * scale))
    step(0, *patches)  # creates the optimiser's moments
    kept = Kept(step)
    kept.best["weights"], _ = kept.weights()  # a copy of its own
    for iteration in logged(settings, run_settings):
        validated = iteration % settings["validate_every"] == 0 or iteration == settings["iterations"]
        values = dict.fromkeys(kept.history.columns[1:-1], 0.1 / 3)
        kept.history.add(iteration=iteration, **values, validation_psnr_rgb=100 / 3 if validated else None)
    scalars = sum(value is not None for row in kept.history.rows for value in row[1:])
    return {
        "states": state.GENERATIONS * len(state.serialised("0" * 64, 0, _zeros(kept.state()))),
        "weights": sum(len(safetensors.torch.save(_zeros(each))) for each in (*kept.weights(), kept.best["weights"])),
        "history": len(kept.history.text()),
        "scalars": scalars * SCALAR,
    }


def logged(settings: dict[str, Any], run_settings: RunSettings) -> list[int]:
    """Return the iterations with a line in a run's history: every `log_every`, each validation, and the last."""
    total, every = settings["iterations"], (run_settings.log_every, settings["validate_every"])
    return sorted({total}.union(*(range(step, total + 1, step) for step in every)))


def _zeros(value: Any) -> Any:
    """Return the same structure with tensors that have data."""
    return tree_map(lambda leaf: torch.zeros(leaf.shape, dtype=leaf.dtype) if isinstance(leaf, Tensor) else leaf, value)


def packed(study: Study, sizes: Sizes) -> list[dict[str, Any]]:
    """Return a record of each packed dataset that the study needs; `bytes` is None if nothing is known about it."""
    datasets = []
    for name, scale in study.packed_datasets():
        size = sizes.dataset(name, scale)
        datasets.append(
            {
                "dataset": name,
                "scale": scale,
                "images": len(size.shapes),
                "bytes": size.bytes if size.shapes else None,
                "present": (study.results / layout.packed(name, scale) / layout.PIXELS).exists(),
                "origin": size.origin,
            }
        )
    return datasets


def downloads(names: list[str], scales: Iterable[int] = ()) -> dict[str, int | None]:
    """Return archive -> bytes (None if unknown) that `safmn fetch` loads for datasets' HR, and LR at these scales."""
    archives: dict[str, int | None] = {}
    for name in names:
        kinds = {catalogue.HR, *scales}
        for archive in catalogue.archives_of(name, kinds):
            if kinds & set(archive.holds[name]):
                archives[archive.remote.name] = archive.about
            kinds -= set(archive.holds[name])
    return archives
