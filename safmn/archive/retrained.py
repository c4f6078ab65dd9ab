"""Steps *retrained* and *extrapolated*: a run trained anew from its archived specification, or its beginning."""

import contextlib
import csv
import io
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from safmn import layout, networks, provenance
from safmn.archive import evaluated, facts
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, REFUTED, UNDECIDED, Finding
from safmn.archive.makers import Maker
from safmn.archive.opening import Opened
from safmn.archive.own_data import OwnData
from safmn.data.packed import PackedPairs
from safmn.errors import UserError
from safmn.paper import statistics
from safmn.quality import evaluation, loading
from safmn.report.measured import benchmarks
from safmn.study import Run
from safmn.training import loop
from safmn.training.state import StateFolder
from safmn.training.stopping import Interrupted

WRITTEN = (*map(layout.weights_file, layout.WEIGHTS), layout.HISTORY)
"""Files of a run that are the same bytes if it is repeated."""
BITWISE = ("device", "gpu", "cpu", "isa", "torch", "cuda", "cudnn", "mkldnn", "platform")
"""Facts of a device; if all are equal, equal bytes are expected. docs/sharing.md says what was measured."""
CLOSE = 0.01
"""How far the losses of the first iterations may be apart on another device, relative: sums have another order."""


@dataclass(frozen=True)
class Archived:
    """A training run of an archive: what was asked for, and the folder with what it left."""

    run: Run
    folder: Path
    record: dict[str, Any]

    @property
    def title(self) -> str:
        """Its name for people."""
        return f"{self.run.variant} x{self.run.scale} seed {self.run.seed}"

    @property
    def specification(self) -> dict[str, Any]:
        """What was asked for."""
        return dict(self.record["specification"])

    @property
    def iterations(self) -> int:
        """Its number of iterations."""
        return int(self.specification["training"]["iterations"])

    @property
    def seconds(self) -> float:
        """What it took when it was archived; 0 if that is not known."""
        return facts.seconds(self.record)


def find(archive: Opened, variant: str) -> Archived:
    """Return the archived run of a variant: at x4 if there is one, of the lowest seed.

    Raises:
        UserError: there is none, or its record is damaged.
    """
    runs = []
    for file in archive.results.glob(layout.record(variant, "[234]", "*")):
        scale, _, seed = file.parent.name.removeprefix("x").partition("_seed")
        record = archive.record(file.relative_to(archive.results).as_posix())
        try:
            runs.append(Archived(Run(variant, int(scale), int(seed)), file.parent, record))
            int(record["specification"]["training"]["iterations"])
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"{file.relative_to(archive.folder)} is damaged: get the archive again") from error
    if not runs:
        known = sorted({file.parts[-3] for file in archive.results.glob(f"training/*/*/{layout.RUN}")})
        raise UserError(f"the archive has no run of {variant}; it has {', '.join(known) or 'none at all'}")
    return min(runs, key=lambda archived: (-archived.run.scale, archived.run.seed))


def repeat(
    archive: Opened, data: OwnData, archived: Archived, maker: Maker, device: torch.device, out: Path
) -> Finding:
    """Train a run anew, and compare weights and history byte for byte, else PSNR with the spread between seeds.

    Args:
        archive: the archive.
        data: the verifier's data, for the archive's study.
        archived: the run.
        maker: the code that trained it. Where it differs from the code here, other bytes refute nothing.
        device: where to train.
        out: an empty folder.

    Raises:
        UserError: it cannot be trained here.
    """
    try:
        loop.train(archived.specification, *_pairs(data, archived), out, data.study.run, device=device)
    except Interrupted as error:  # nothing is kept here, so it is no more than an interruption
        raise KeyboardInterrupt from error
    equal, differing, absent = _bytes(archive, archived, out)
    alike, why = _alike(archived, device)
    if equal and not differing:
        note = f"the same bytes: {', '.join(equal)}" + (f"; not in the archive: {', '.join(absent)}" if absent else "")
        return _of_code(Finding(archived.title, CONFIRMED, note), maker)
    text = f"other bytes in {', '.join(differing)}" if differing else "the archive has nothing to compare bytes with"
    if alike and differing and maker.is_here:
        return Finding(archived.title, REFUTED, f"{text}, although device, versions and code are the same")
    return _of_code(_in_spread(archive, data, archived, device, out, f"{text} ({why})"), maker)


def _of_code(finding: Finding, maker: Maker) -> Finding:
    """Add to a finding which code trained the run."""
    return replace(finding, note=f"{finding.note}; trained by {maker}", differing=maker.differing or ())


def begin(data: OwnData, archived: Archived, maker: Maker, device: torch.device, out: Path, count: int) -> Finding:
    """Train the first iterations of a run anew, and compare their history line by line.

    Args:
        data: the verifier's data, for the archive's study.
        archived: the run.
        maker: the code that trained it.
        device: where to train.
        out: an empty folder.
        count: of iterations.

    Raises:
        UserError: it cannot be trained here, or its history cannot be read.
    """
    training = loop.Training(archived.specification, *_pairs(data, archived), out, data.study.run, device)
    states = StateFolder(out / layout.STATE, training.identity.key)
    states.acquire()
    try:
        with contextlib.suppress(Interrupted):  # as it is asked to
            training.run(states, lambda: int(signal.SIGUSR1) if training.kept.iteration >= count else None)
    finally:
        states.release()
    try:
        theirs = (archived.folder / layout.HISTORY).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("its history is not in the archive, or damaged") from error
    alike, why = _alike(archived, device)
    found = lines(archived.title, theirs, training.kept.history.text(), count, alike, why, maker.is_here)
    return _of_code(found, maker)


def lines(title: str, archived: str, again: str, count: int, alike: bool, why: str, same_code: bool = True) -> Finding:
    """Compare the lines of two histories up to an iteration.

    Args:
        title: of the run.
        archived: the text of the archived history.csv.
        again: that of the repeated one.
        count: the last iteration that was repeated.
        alike: whether the device lets one expect the same bytes.
        why: the reason for that.
        same_code: whether the code that trained the run is known to be the code here.
    """
    try:
        theirs, ours = (_rows(text, count) for text in (archived, again))
    except (KeyError, ValueError, csv.Error):
        return Finding(title, REFUTED, "its history is damaged")
    if not ours:
        return Finding(title, NOT_CHECKED, f"its history has no line up to iteration {count}: ask for more iterations")
    if theirs == ours:
        return Finding(title, CONFIRMED, f"{len(ours)} lines up to iteration {count} are the same text")
    columns = {tuple(row) for rows in (theirs, ours) for row in rows.values()}
    if len(columns) > 1:
        return Finding(title, REFUTED if same_code else UNDECIDED, "the two histories have other columns")
    if theirs.keys() != ours.keys():
        first = min(theirs.keys() ^ ours.keys())
        return Finding(title, REFUTED, f"only one of the two histories has a line of iteration {first}")
    first = min(iteration for iteration in ours if theirs[iteration] != ours[iteration])
    farthest = max(
        abs(float(a) - float(b)) / max(abs(float(a)), 1e-12)
        for iteration in ours
        for a, b in zip(theirs[iteration].values(), ours[iteration].values(), strict=True)
        if a and b
    )
    text = f"the line of iteration {first} is the first that differs; at most {farthest:.2g} apart, relative; {why}"
    if alike and same_code:
        return Finding(title, REFUTED, text)
    return Finding(title, CONFIRMED if farthest <= CLOSE else UNDECIDED, text)


def _rows(text: str, count: int) -> dict[int, dict[str, str]]:
    rows = {int(row["iteration"]): row for row in csv.DictReader(io.StringIO(text))}
    return {iteration: row for iteration, row in rows.items() if iteration <= count}


def _pairs(data: OwnData, archived: Archived) -> tuple[list[PackedPairs], list[PackedPairs]]:
    """Return the images to train and to validate on; UserError where there are none."""
    specification = archived.specification
    here = data.study.specification(archived.run)
    differing = [key for key in here if key != "training" and specification.get(key) != here[key]]
    if differing:
        names = ", ".join(differing)
        raise UserError(f"the run was not made as its study and the network of that name here say ({names})")
    train, validation = specification["train"], specification["validation"]
    pairs = data.open([*train, *validation], archived.run.scale)
    return pairs[: len(train)], pairs[len(train) :]


def _bytes(archive: Opened, archived: Archived, out: Path) -> tuple[list[str], list[str], list[str]]:
    """Return which files are equal, which differ, and which are not in the archive.

    Weights that are not in the archive are compared by the hash in the record of their evaluation.
    """
    equal: list[str] = []
    differing: list[str] = []
    absent: list[str] = []
    for name in WRITTEN:
        theirs = archived.folder / name
        if theirs.is_file():
            expected: Any = provenance.of_file(theirs)
        else:
            run, which = archived.run, layout.trained(archived.run.seed, Path(name).stem)
            record = archive.record(layout.evaluation(run.variant, run.scale, which))
            expected = (record.get("weights") or {}).get("sha256")
        places = absent if expected is None else equal if provenance.of_file(out / name) == expected else differing
        places.append(name)
    return equal, differing, absent


def _alike(archived: Archived, device: torch.device) -> tuple[bool, str]:
    """Return whether the same bytes are expected: the same kind of device, the same versions; and what differs."""
    differing = facts.differing(archived.record, device.type, BITWISE)
    return not differing, differing or "the same kind of device and versions"


def _in_spread(
    archive: Opened, data: OwnData, archived: Archived, device: torch.device, out: Path, text: str
) -> Finding:
    """Compare PSNR on the test sets with the archived one, by the spread between the archived seeds."""
    run = archived.run
    module = loading.load_network(run.variant, run.scale, out / layout.weights_file("best"))[0].to(device)
    notes, outside, known = [], False, False
    for benchmark in benchmarks(data.study):
        seeds = _seeds(archive, run, benchmark.stem)
        try:
            (pairs,) = data.open([benchmark.selection], run.scale)
        except UserError:  # the findings of the data say why
            continue
        if run.seed not in seeds:
            continue
        psnr = evaluation.evaluate(module, pairs, run.scale, channels=networks.info(run.variant).colour).psnr
        apart = psnr - seeds[run.seed]
        note = f"{benchmark.selection}: {psnr:.3f} dB now, {seeds[run.seed]:.3f} dB archived"
        interval = statistics.difference_over_seeds([psnr], list(seeds.values()))
        if interval.ends is None:
            notes.append(f"{note}, {apart:+.3f}; one seed has no spread")
            continue
        known = True
        outside |= interval.excludes_zero
        notes.append(f"{note}; {'outside' if interval.excludes_zero else 'within'} the spread of {len(seeds)} seeds")
    if not notes:
        return Finding(archived.title, UNDECIDED, f"{text}; there is no evaluation to compare with")
    verdict = UNDECIDED if not known else REFUTED if outside else CONFIRMED
    return Finding(archived.title, verdict, "; ".join([text, *notes]))


def _seeds(archive: Opened, run: Run, stem: str) -> dict[int, float]:
    """Return the archived mean PSNR of each seed of a run's variant at its scale."""
    means = {}
    for found in evaluated.listed(archive, {run.variant}):
        seed, _, which = found.which.removeprefix("seed").partition("_")
        if found.scale == run.scale and which == "best" and seed.isdigit():
            for entry in found.record.get("datasets") or ():
                if Path(str(entry.get("out"))).stem == stem and isinstance(entry.get("psnr"), float):
                    means[int(seed)] = float(entry["psnr"])
    return means
