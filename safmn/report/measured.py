"""Read what the stages left under `results/<study>/`. What is absent or damaged is a reason, never an error."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from safmn import layout
from safmn.data import catalogue
from safmn.data.sources import DATASETS, parse_selection
from safmn.errors import as_line, one_line
from safmn.quantities import QUALITIES
from safmn.study import Run, Study, identifier

METRICS = ("psnr", "ssim")
Record = Mapping[str, Any]  # a JSON object


@dataclass(frozen=True)
class Absent:
    """There is no number; `reason` is "" where the file does not exist, else says what is wrong with it."""

    reason: str = ""

    def __bool__(self) -> Literal[False]:
        return False


# --- Test sets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Benchmark:
    """One entry of a study's `data.test`.

    Attributes:
        selection: As written, `photographs[-2:]`.
        name: The dataset's name, `photographs`.
        id: What its columns in `cells.csv` begin with: the name in lower case.
        images: Number of images in the whole dataset, None where that is not known.
    """

    selection: str
    name: str
    id: str
    images: int | None

    @property
    def stem(self) -> str:
        """The name of its files under `quality/`: `name`, or `id` where the study tests on several parts of it."""
        return self.name if self.id == identifier(self.name) else self.id

    @property
    def title(self) -> str:
        """Its name in tables: `name`, or `selection` where the study tests on several parts of it."""
        return self.name if self.stem == self.name else self.selection


def benchmarks(study: Study) -> list[Benchmark]:
    """Return the study's test sets; two parts of one dataset have ids of their own."""
    sets = []
    for identity, text in study.test_sets.items():
        name = parse_selection(text)[0]
        dataset = DATASETS.get(name)
        sets.append(Benchmark(text, name, identity, dataset.images if dataset else None))
    return sets


def benchmark_title(identity: str, study: Study) -> str:
    """Return the title of a test set by its id, also of one that the study does not test on."""
    own = {benchmark.id: benchmark.title for benchmark in benchmarks(study)}
    return own.get(identity) or names().get(identity, identity)


def names() -> dict[str, str]:
    """Return the names of known datasets: identifier -> name."""
    return {identifier(name): name for name in DATASETS}


class Scores:
    """The figures of every image of a test set: figure (a key of `QUALITIES`) -> image -> value.

    PSNR and SSIM on Y are always among them; a file of an earlier version has no others.
    """

    def __init__(self, figures: dict[str, dict[str, float]]) -> None:
        self.figures = figures

    def __len__(self) -> int:
        return len(self.figures["psnr"])

    def by_image(self, figure: str) -> dict[str, float]:
        """Return image -> value; empty where the figure was not measured."""
        return self.figures.get(figure, {})

    def mean(self, figure: str) -> float:
        """Compute the mean over the images."""
        values = self.figures[figure].values()
        try:
            return math.fsum(values) / len(values)
        except (OverflowError, ValueError):  # inf and -inf together
            return math.nan

    def infinite(self) -> str:
        """Say how many images have an infinite PSNR, and the mean of the others; "" where none has."""
        finite = [value for value in self.by_image("psnr").values() if value != math.inf]
        count = len(self) - len(finite)
        if not count:
            return ""
        others = "so is that of all"
        if finite:
            others = f"the mean of the others is {math.fsum(finite) / len(finite):.3f} dB"
        return f"PSNR of {count} image{'s' * (count > 1)} is infinite (SR equals HR); {others}"


# --- Results ----------------------------------------------------------------------------------------------------------


class Results:
    """The folder `results/<study>/` of a study, finished or not. Records, scores and curves are read once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.json = cache(self._json)
        self.scores = cache(self._scores)
        self.curve = cache(self._curve)

    def _json(self, path: str) -> dict[str, Any] | Absent:
        """Read a JSON object; `path` is relative to the folder."""
        file = self.folder / path
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Absent()
        except (OSError, ValueError, RecursionError) as error:
            return Absent(f"{self.shown(file)} is damaged ({as_line(error)}): delete it and make it again")
        if not isinstance(content, dict) or not content:
            return Absent(f"{self.shown(file)} does not hold what it should: delete it and make it again")
        return content

    def _scores(self, network: str, scale: int, weights: str, benchmark: Benchmark) -> Scores | Absent:
        """Read the scores of a test set; `weights` as in `safmn.layout.quality`."""
        file = self.folder / layout.scores(network, scale, weights, benchmark.stem)
        try:
            with open(file, encoding="utf-8", newline="") as handle:
                reader = csv.DictReader(handle)
                lines, present = list(reader), reader.fieldnames or ()
            wanted = [figure for figure in QUALITIES if figure in METRICS or figure in present]
            figures = {figure: {line["image"]: float(line[figure]) for line in lines} for figure in wanted}
        except FileNotFoundError:
            return Absent()
        except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
            return Absent(f"{self.shown(file)} is damaged ({as_line(error)}): delete it and evaluate again")
        return Scores(figures) if lines else Absent(f"{self.shown(file)} is empty: delete it and evaluate again")

    # --- training ---

    def record(self, run: Run) -> dict[str, Any] | Absent:
        """Return a run's run.json."""
        return self.json(run.record)

    def _curve(self, run: Run, column: str) -> pd.Series:
        """Return a column of a run's history.csv over iterations; empty where there is no usable file."""
        return read_curve(self.folder / _folder(run) / layout.HISTORY, column)

    def unpacked(self, dataset: str, scale: int) -> str:
        """Say why a dataset is not packed, from the log of its download or packing; "" where no log says so."""
        if (self.folder / layout.packed(dataset, scale) / layout.INDEX).exists():
            return ""
        source = catalogue.source_of(dataset) if dataset in catalogue.FOLDERS else dataset
        return self.complaint("fetch", source) or self.complaint("pack", f"{dataset}_x{scale}")

    def untrained(self, run: Run) -> str:
        """Say why a run has no weights, and what to do."""
        record = self.record(run)
        folder = self.folder / _folder(run)
        target = f"`snakemake train_{run.variant}`"
        if isinstance(record, Absent) and record.reason:
            return record.reason
        if failure := first_line(folder / layout.FAILURE):
            return f"training failed: {failure}"
        if (folder / layout.STATE).exists():
            return f"training is not finished: {target} resumes it"
        return f"not trained yet: {target}"

    # --- cost ---

    def complexity(self, network: str, scale: int) -> dict[str, Any] | Absent:
        """Return `params`, `flops`, `activations` (exact integers), `alternatives`, `convention`, `versions`.

        `lower_bound` says whether operations of `uncounted` ("operation", "calls") are left out of FLOPs and
        activations, `value_reads` where the network looks at values.
        """
        defaults = {"alternatives": {}, "lower_bound": False, "uncounted": [], "value_reads": []}

        def pick(document: Record) -> dict[str, Any] | None:
            record = document["scales"].get(str(scale))
            if record is None:
                return None
            counts = {key: int(record[key]) for key in ("params", "flops", "activations")}
            return {**defaults, **record, **counts} | {key: document.get(key) for key in ("convention", "versions")}

        return self._pick(layout.complexity(network), pick, "complexity")

    def memory(self, network: str) -> dict[str, Any] | Absent:
        """Return `bytes`, whether they are `measured`, `predicted`, `layer`, `device`, `gpu`, `settings`, `trouble`."""

        def pick(document: Record) -> dict[str, Any] | None:
            record = document["networks"].get(network)
            if record is None:
                return None
            predicted, provenance = record["predicted"]["reference"], document.get("provenance", {})
            measured = record.get("measured", {}).get("reference", {})
            is_measured = measured.get("status") == "measured"
            gpu = provenance.get("gpu", "")
            trouble = ""
            if measured and not is_measured:
                trouble = f"{measured.get('status')} on {gpu or 'the device'}{requested_size(measured)}"
            return {
                "bytes": int((measured if is_measured else predicted)["peak"]),
                "predicted": int(predicted["peak"]),
                "layer": str(predicted.get("layer", "")),
                "measured": is_measured,
                "trouble": trouble,
                "flagged": is_measured and measured.get("flagged", False),
                "device": str(provenance.get("device") or ""),
                "gpu": gpu,
                "settings": document.get("settings", {}),
            }

        return self._pick(layout.cost("memory"), pick, "memory")

    def runtime(self, network: str) -> dict[str, Any] | Absent:
        """Return the record of mode `eager`, with `provenance`, `settings` and the records of the other `modes`.

        A record's `status` is not always "timed".
        """

        def pick(document: Record) -> dict[str, Any] | None:
            if network not in document["networks"]:
                return None
            modes = {mode: _timed(record) for mode, record in document["networks"][network].items()}
            return modes.pop("eager") | _where(document) | {"modes": modes}

        return self._pick(layout.cost("runtime"), pick, "runtime")

    def operation(self, title: str) -> dict[str, Any] | Absent:
        """Return one operation of Table 5 by the paper's name, with `provenance` and `settings`."""

        def pick(document: Record) -> dict[str, Any] | None:
            record = next(
                (operation for operation in document["operations"].values() if operation["title"] == title), None
            )
            if record is None:
                return None
            numbers = {key: float(record[key]) for key in ("total_ms", "per_image_ms", "share")}
            return dict(record) | numbers | _where(document)

        return self._pick(layout.cost("operations"), pick, "operations")

    def _pick(self, path: str, pick: Callable[[Record], dict[str, Any] | None], stage: str) -> dict[str, Any] | Absent:
        """Return what `pick` takes from a file; where there is no file, the last complaint of the stage's command."""
        document = self.json(path)
        if isinstance(document, Absent):
            return document if document.reason else Absent(self.complaint(stage))
        try:
            return pick(document) or Absent()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            shown = self.shown(self.folder / path)
            return Absent(f"{shown} lacks a number ({as_line(error)}): delete it and make it again")

    # --- messages ---

    def complaint(self, stage: str, name: str = "") -> str:
        """Return why a command of the stage failed, from its log; "" where the log does not say."""
        start = f"safmn {stage}: "
        lines = _lines(self.folder / layout.log(stage, name))
        errors = [line for line in lines if line.startswith(start) and not line.startswith(f"{start}warning: ")]
        return f"failed: {errors[-1].removeprefix(start)}" if errors else ""

    def shown(self, file: Path) -> str:
        """Return a path for messages: below the study's folder, so that tables hold no machine's paths."""
        try:
            return str(file.relative_to(self.folder.parent))
        except ValueError:
            return file.name


def requested_size(record: Record) -> str:
    """Return " with an LR image of 320x180" where a record of a failure names the size, else ""."""
    size = record.get("requested_lr")
    return f" with an LR image of {size.get('width')}x{size.get('height')}" if size else ""


def first_line(file: Path) -> str:
    """Return the first line that is not blank, shortened; "" where there is no such file."""
    return next((line[:500] for line in _lines(file) if line), "")


def read_curve(file: Path, column: str) -> pd.Series:
    """Read a column of a CSV over `iteration`, finite values only; empty where the file is not usable."""
    try:
        curve = pd.read_csv(file, index_col="iteration", dtype=float, float_precision="round_trip")[column]
    except (OSError, KeyError, ValueError):
        return pd.Series(dtype=float)
    return curve[np.isfinite(curve)]


def _folder(run: Run) -> str:
    return layout.run(run.variant, run.scale, run.seed)


def _timed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of a mode, its times as numbers."""
    times = ("median_ms", "mean_ms") if record["status"] == "timed" else ()
    return record | {key: float(record[key]) for key in times}


def _where(document: Record) -> dict[str, Any]:
    return {key: document[key] for key in ("provenance", "settings")}


def _lines(file: Path) -> list[str]:
    try:
        return [one_line(line) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
