"""Step *evaluated*: archived weights on the verifier's own data give the same PSNR and SSIM, image by image."""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from safmn import layout, networks, provenance
from safmn.archive import facts
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, REFUTED, Finding
from safmn.archive.opening import Opened
from safmn.archive.own_data import OwnData
from safmn.errors import UserError, as_line
from safmn.paper.verdicts import TOLERANCE
from safmn.quality import evaluation, loading
from safmn.report.measured import METRICS, benchmarks
from safmn.study import Study

COMPARED = ("psnr", "ssim", "psnr_rgb", "ssim_rgb")
"""Figures of an image; LPIPS is not among them, whose network is another package's."""
EQUAL = 1e-6
"""How far apart PSNR (dB) and SSIM of an image may be on the same kind of device with the same version of torch."""
SAME = ("device", "gpu", "cpu", "isa", "torch")


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of an archive.

    Attributes:
        network: its name.
        scale: 2, 3 or 4.
        which: the folder: `seed0_best`, `published`, `legacy`.
        record: its `evaluation.json`.
    """

    network: str
    scale: int
    which: str
    record: dict[str, Any]

    @property
    def title(self) -> str:
        """Its name for people."""
        return f"{self.network} x{self.scale} {self.which}"

    @property
    def seconds(self) -> float:
        """What it took when it was archived; 0 if that is not known."""
        return facts.seconds(facts.of(self.record))


def listed(archive: Opened, chosen: set[str] | None = None) -> list[Evaluated]:
    """Return the evaluations in an archive, those of the chosen networks only if there is a choice."""
    found = []
    for file in sorted(archive.results.glob(layout.evaluation("*", "[234]", "*"))):
        folder = file.parent
        network, scale = folder.parts[-3], int(folder.parts[-2].removeprefix("x"))
        if chosen is None or network in chosen:
            record = archive.record(file.relative_to(archive.results).as_posix())
            found.append(Evaluated(network, scale, folder.name, record))
    return found


def check(
    archive: Opened,
    data: OwnData,
    device: torch.device,
    chosen: set[str] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Finding]:
    """Return what was found; the data come first.

    Args:
        archive: the archive.
        data: the verifier's data, for the archive's study; its `weights.root` says where published weights are.
        device: where the networks run.
        chosen: names of networks; None for all.
        on_progress: called with (evaluations done, evaluations in all).
    """
    findings: list[Finding] = []
    there = listed(archive, chosen)
    for done, evaluated in enumerate(there, 1):
        findings += _evaluated(archive, data, device, evaluated)
        on_progress(done, len(there))
    if not there:
        findings.append(Finding("evaluations", NOT_CHECKED, "the archive has none"))
    return [*data.findings, *findings]


def _evaluated(archive: Opened, data: OwnData, device: torch.device, evaluated: Evaluated) -> Iterator[Finding]:
    network, scale = evaluated.network, evaluated.scale
    try:
        info = networks.info(network)
        file = _weights(archive, data.study, evaluated)
        module = loading.load_network(network, scale, file)[0].to(device)
    except UserError as error:
        yield Finding(evaluated.title, NOT_CHECKED, as_line(error))
        return
    legacy = evaluated.which == "legacy"
    for benchmark in benchmarks(data.study):
        name = f"{evaluated.title} on {benchmark.selection}"
        scores = archive.results / layout.scores(network, scale, evaluated.which, benchmark.stem)
        if not scores.is_file():
            continue
        try:
            (pairs,) = data.open([benchmark.selection], scale)
        except UserError as error:
            yield Finding(name, NOT_CHECKED, as_line(error))
            continue
        again = evaluation.evaluate(
            None if legacy and network == "bicubic" else module,
            pairs,
            scale,
            channels=info.colour,
            protocol="legacy" if legacy else "present",
        )
        yield compared(name, _read(scores), again, *_reach(evaluated.record, device))


def _weights(archive: Opened, study: Study, evaluated: Evaluated) -> Path | None:
    """Return the file that was evaluated; None for a network without weights; UserError if it is not available."""
    used = evaluated.record.get("weights")
    if evaluated.which.startswith("seed"):
        seed, _, which = evaluated.which.removeprefix("seed").partition("_")
        file = archive.results / layout.weights(evaluated.network, evaluated.scale, seed, which)
        if not file.is_file():
            raise UserError(f"the archive does not hold its weights {which}")
        return file
    if not isinstance(used, dict):
        return None
    found = study.published_weights(evaluated.network, evaluated.scale)
    if found is None or not found.is_file():
        raise UserError("published weights are not in an archive: name your folder of them with --weights-root")
    if provenance.of_file(found) != used.get("sha256"):
        raise UserError(f"{found.name} in your folder is not the file that was evaluated (sha256)")
    return found


def _reach(record: dict[str, Any], device: torch.device) -> tuple[dict[str, float], str]:
    """Return how far PSNR and SSIM may be from the archived ones, and why."""
    differing = facts.differing(record, device.type, SAME)
    if not differing:
        return dict.fromkeys(METRICS, EQUAL), "the same kind of device and version of torch"
    return TOLERANCE, differing


Scores = dict[str, dict[str, float]]
"""Image -> figure -> value."""


def _read(file: Path) -> Scores:
    try:
        with open(file, encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
        figures = [figure for figure in COMPARED if figure in METRICS or all(figure in row for row in rows)]
        return {row["image"]: {figure: float(row[figure]) for figure in figures} for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        return {}


def compared(
    name: str,
    archived: Scores,
    again: evaluation.Evaluation,
    reach: dict[str, float],
    why: str,
) -> Finding:
    """Compare the scores of every image with the archived ones.

    Args:
        name: what was evaluated.
        archived: image -> figure -> value; archives of earlier versions have no figures in RGB.
        again: evaluated anew.
        reach: by metric, how far the two may be apart.
        why: the reason for that reach.
    """
    ours = {score.image: score for score in again.scores}
    if ours.keys() != archived.keys():
        others = sorted(ours.keys() ^ archived.keys())
        return Finding(name, REFUTED, f"other images were evaluated: {', '.join(others[:3])}")
    if not all({"psnr", "ssim"} <= figures.keys() for figures in archived.values()):
        return Finding(name, REFUTED, "an archived image has no PSNR or no SSIM")
    farthest: dict[str, tuple[float, str]] = {}
    for figure in [name for name in next(iter(archived.values())) if name in again.measured]:
        apart = ((_apart(archived[image][figure], getattr(ours[image], figure)), image) for image in ours)
        farthest[figure] = max(apart)
    text = ", ".join(f"{figure} at most {distance:.2g} apart" for figure, (distance, _) in farthest.items())
    for figure, (distance, image) in farthest.items():
        if not distance <= reach[figure.partition("_")[0]]:
            unit = " dB" if figure.startswith("psnr") else ""
            here = f"{archived[image][figure]:.6f}{unit} archived, {getattr(ours[image], figure):.6f}{unit} now"
            return Finding(name, REFUTED, f"{image}: {figure} {here}; {text}; {why}")
    return Finding(name, CONFIRMED, f"{len(ours)} images, {text}; {why}")


def _apart(first: float, second: float) -> float:
    return 0.0 if first == second else math.inf if math.isnan(first - second) else abs(first - second)
