"""The steps of a verification: what each needs, what it will take, and its work."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from safmn.archive import consistent, counted, evaluated, facts, retrained, whole
from safmn.archive.findings import NOT_CHECKED, Finding
from safmn.archive.makers import Makers
from safmn.archive.opening import Opened
from safmn.archive.own_data import OwnData
from safmn.archive.retrained import Archived
from safmn.errors import UserError, as_line
from safmn.progress import Progress
from safmn.quality.loading import choose_device
from safmn.study import Study

STEPS = {
    "whole": "is every file the one that was archived, and is the description complete?",
    "consistent": "do tables, claims and figures follow from the archived results, byte for byte?",
    "evaluated": "do the weights give the same PSNR and SSIM on the verifier's own images?",
    "counted": "are parameters, FLOPs, activations and predicted memory the same, counted again?",
    "retrained": "does training a variant anew give the same weights, or the same PSNR within the spread of seeds?",
    "extrapolated": "does the history of a run begin in the same way, trained anew?",
}
Work = Callable[[], Iterable[Finding]]
PER_NETWORK = 5.0  # seconds to count a network at all scales, roughly


@dataclass
class Wishes:
    """What is to be verified.

    Attributes:
        steps: of STEPS.
        data_root: the verifier's datasets.
        weights_root: the verifier's published weights.
        networks: that are evaluated and counted; None for all.
        retrain: variants that are trained anew.
        extrapolate: variants whose first iterations are trained anew.
        iterations: how many; None for the first lines of the history.
        device: "cpu", "cuda", or None for CUDA if there is one.
        reviewer: who verifies, to be named.
        trust_code: whether networks and losses that only the archive has are run.
    """

    steps: tuple[str, ...] = tuple(STEPS)
    data_root: str | None = None
    weights_root: str | None = None
    networks: set[str] | None = None
    retrain: tuple[str, ...] = ()
    extrapolate: tuple[str, ...] = ()
    iterations: int | None = None
    device: str | None = None
    reviewer: str | None = None
    trust_code: bool = False


class Steps:
    """The steps of one archive.

    Args:
        archive: the archive.
        wishes: what is to be verified.
        scratch: an empty folder.
    """

    def __init__(self, archive: Opened, wishes: Wishes, scratch: Path) -> None:
        self.archive = archive
        self.wishes = wishes
        self.scratch = scratch

    def of(self, name: str) -> tuple[str, Work]:
        """Return what a step is expected to take, and its work."""
        work: dict[str, tuple[Callable[[], str], Work]] = {
            "whole": (self._cost_of_reading, lambda: whole.check(self.archive)),
            "consistent": (lambda: "half a minute, to render everything again", self._consistent),
            "evaluated": (self._cost_of_evaluation, self._evaluated),
            "counted": (self._cost_of_counting, self._counted),
            "retrained": (lambda: self._cost_of_training(self.wishes.retrain), self._retrained),
            "extrapolated": (lambda: self._cost_of_training(self.wishes.extrapolate, first=True), self._extrapolated),
        }
        cost, step = work[name]
        return cost(), step

    # --- whole, consistent, counted ---

    def _cost_of_reading(self) -> str:
        size = sum(file.stat().st_size for file in self.archive.files.values())
        return f"seconds, to read {size / 1e6:,.1f} MB"

    def _consistent(self) -> Iterable[Finding]:
        folder = self.scratch / "rendered"
        folder.mkdir()
        return consistent.check(self.archive, folder)

    def _cost_of_counting(self) -> str:
        names = counted.listed(self.archive, self.wishes.networks)
        return f"about {PER_NETWORK * len(names):,.0f} s for {len(names)} networks"

    def _counted(self) -> list[Finding]:
        with Progress("counting again", "networks") as progress:
            return counted.check(self.archive, self.wishes.networks, progress)

    # --- evaluated ---

    def _cost_of_evaluation(self) -> str:
        there = evaluated.listed(self.archive, self.wishes.networks)
        seconds = sum(each.seconds for each in there)
        return f"{len(there)} evaluations, which took {_time(seconds)} where they were archived{self._where(there)}"

    def _where(self, there: list[evaluated.Evaluated]) -> str:
        for each in there:
            origin = facts.of(each.record)
            name = origin.get("gpu") or origin.get("cpu")
            if name:
                return f" ({name})"
        return ""

    def _evaluated(self) -> list[Finding]:
        data = self._data
        with Progress("evaluating again", "evaluations") as progress:
            return evaluated.check(self.archive, data, self._device, self.wishes.networks, progress)

    # --- retrained, extrapolated ---

    def _cost_of_training(self, names: tuple[str, ...], first: bool = False) -> str:
        told = []
        for name in names:
            try:
                found = retrained.find(self.archive, name)
            except UserError:
                continue  # its work says so
            count = self._count(found.record) if first else found.iterations
            seconds = found.seconds * count / found.iterations
            told.append(f"{count:,} iterations of {found.title}, {_time(seconds)} where it was archived")
        return "; ".join(told) or "nothing"

    def _retrained(self) -> list[Finding]:
        def again(data: OwnData, found: Archived, out: Path) -> Finding:
            return retrained.repeat(self.archive, data, found, self._makers.of(found.record), self._device, out)

        return self._trained("retrain", self.wishes.retrain, again)

    def _extrapolated(self) -> list[Finding]:
        def again(data: OwnData, found: Archived, out: Path) -> Finding:
            maker, count = self._makers.of(found.record), self._count(found.record)
            return retrained.begin(data, found, maker, self._device, out, count)

        return self._trained("extrapolate", self.wishes.extrapolate, again)

    def _trained(
        self, option: str, names: tuple[str, ...], again: Callable[[OwnData, Archived, Path], Finding]
    ) -> list[Finding]:
        """Train the archived run of each variant again, into a folder of its own."""
        if not names:
            return [Finding("variants", NOT_CHECKED, f"none was named: --{option} VARIANT")]
        data, findings = self._data, []
        for name in names:
            title = name
            try:
                found = retrained.find(self.archive, name)
                title = found.title
                findings.append(again(data, found, self.scratch / option / name))
            except UserError as error:
                findings.append(Finding(title, NOT_CHECKED, as_line(error)))
        return [*data.findings, *findings]

    def _count(self, record: dict[str, Any]) -> int:
        """Return how many first iterations are trained anew: as asked, or up to the second line of the history."""
        training = record["specification"]["training"]
        total = int(training["iterations"])
        if self.wishes.iterations is not None:
            return min(total, self.wishes.iterations)
        try:
            every = self._study.run.log_every
        except UserError:
            every = training["validate_every"]
        return min(total, 2 * int(every))

    # --- what they share ---

    @cached_property
    def _study(self) -> Study:
        return self.archive.study(data_root=self.wishes.data_root, weights_root=self.wishes.weights_root)

    @property
    def _data(self) -> OwnData:
        """The verifier's data, new for each step, which reports on those that it needs; nothing is packed twice."""
        return OwnData(self.archive, self._study, self.scratch / "data")

    @cached_property
    def _makers(self) -> Makers:
        return Makers(self.archive, self.scratch / "code")

    @cached_property
    def _device(self) -> torch.device:
        return choose_device(self.wishes.device)


def _time(seconds: float) -> str:
    if not seconds:
        return "an unknown time"
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} h"
