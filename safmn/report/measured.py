"""What lies under `results/<study>/`: read as far as it is there. What is absent is a reason, never an error."""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safmn import layout
from safmn.data import catalogue
from safmn.data.sources import DATASETS, parse_selection
from safmn.errors import one_line
from safmn.study import Run, Study

METRICS = ("psnr", "ssim")
NAMES = {
    "set5": "Set5",
    "set14": "Set14",
    "b100": "B100",
    "urban100": "Urban100",
    "manga109": "Manga109",
    "div2k_val": "DIV2K_val",
}


@dataclass(frozen=True)
class Absent:
    """There is no number. `reason` is empty where the file simply is not there, else says what is wrong with it."""

    reason: str = ""

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True)
class Benchmark:
    """One entry of a study's `data.test`.

    Attributes:
        selection: as written, `photographs[-2:]`.
        name: the dataset's, `photographs`; also the stem of its files under `quality/`.
        id: what its columns in `cells.csv` begin with: the name in lower case.
        images: how many images the whole dataset has, None where that is not known.
    """

    selection: str
    name: str
    id: str
    images: int | None

    @property
    def stem(self) -> str:
        """Its files' name under `quality/`: the dataset's, or the id where the study tests on several parts of it."""
        return self.name if self.id == identifier(self.name) else self.id


def benchmarks(study: Study) -> list[Benchmark]:
    """The study's test sets; two parts of one dataset get ids of their own."""
    names = [parse_selection(text)[0] for text in study.data.test]
    often = Counter(name.lower() for name in names)
    found = []
    for text, name in zip(study.data.test, names, strict=True):
        base = name if often[name.lower()] == 1 else text
        known = DATASETS.get(name)
        found.append(Benchmark(text, name, identifier(base), known.images if known else None))
    return list({each.id: each for each in found}.values())


def benchmark_title(identity: str, study: Study) -> str:
    """A benchmark's name for the header of a table."""
    own = next((each for each in benchmarks(study) if each.id == identity), None)
    if own is None:
        return NAMES.get(identity, identity)
    return own.name if own.id == identifier(own.name) else own.selection


def identifier(text: str) -> str:
    """A dataset's name or selection as columns of `cells.csv` have it: lower case, letters, digits and _."""
    return "".join(sign if sign.isalnum() else "_" for sign in text.lower()).strip("_")


class Scores:
    """PSNR on Y (dB) and SSIM on Y of every image of a test set."""

    def __init__(self, rows: dict[str, tuple[float, float]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def by_image(self, metric: str) -> dict[str, float]:
        """Image -> PSNR or SSIM."""
        place = METRICS.index(metric)
        return {image: values[place] for image, values in self.rows.items()}

    def mean(self, metric: str) -> float:
        """Mean over the images."""
        values = self.by_image(metric).values()
        try:
            return math.fsum(values) / len(values)
        except (OverflowError, ValueError):  # inf and -inf together
            return math.nan

    def infinite(self) -> str:
        """How many images have an infinite PSNR, and the mean of the others; "" where none has."""
        finite = [value for value in self.by_image("psnr").values() if value != math.inf]
        count = len(self) - len(finite)
        if not count:
            return ""
        others = (
            f"the mean of the others is {math.fsum(finite) / len(finite):.3f} dB" if finite else "so is that of all"
        )
        return f"PSNR of {count} image{'s' * (count > 1)} is infinite (SR equals HR); {others}"


class Results:
    """The folder `results/<study>/` of a study, finished or not. Every file is read once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.json = cache(self._json)
        self.scores = cache(self._scores)

    # --- quality ---

    def _scores(self, network: str, scale: int, weights: str, benchmark: Benchmark) -> Scores | Absent:
        """Per-image scores of a test set; `weights` as in `safmn.layout.quality`."""
        file = self.folder / layout.scores(network, scale, weights, benchmark.stem)
        try:
            with open(file, encoding="utf-8", newline="") as handle:
                rows = {line["image"]: (float(line["psnr"]), float(line["ssim"])) for line in csv.DictReader(handle)}
        except FileNotFoundError:
            return Absent()
        except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
            return Absent(f"{self.shown(file)} is damaged ({_short(error)}): delete it and evaluate again")
        return Scores(rows) if rows else Absent(f"{self.shown(file)} is empty: delete it and evaluate again")

    # --- training ---

    def record(self, run: Run) -> dict[str, Any] | Absent:
        """A run's run.json."""
        return self.json(f"{_folder(run)}/{layout.RUN}")

    def unpacked(self, dataset: str, scale: int) -> str:
        """Why a dataset is not packed, as the job that downloaded or packed it said; "" where nothing was said."""
        if (self.folder / layout.packed(dataset, scale) / layout.INDEX).exists():
            return ""
        source = catalogue.source_of(dataset) if dataset in catalogue.FOLDERS else dataset
        return self.complaint("fetch", source) or self.complaint("pack", f"{dataset}_x{scale}")

    def untrained(self, run: Run) -> str:
        """Why a run has no weights, and what to do."""
        record = self.record(run)
        folder = self.folder / _folder(run)
        target = f"`snakemake train_{run.variant}`"
        if isinstance(record, Absent) and record.reason:
            return record.reason
        failure = first_line(folder / layout.FAILURE)
        if failure:
            return f"training failed: {failure}"
        if (folder / layout.STATE).exists():
            return f"training is not finished: {target} goes on with it"
        return f"not trained yet: {target}"

    def history(self, run: Run) -> list[dict[str, float]]:
        """The rows of a run's history.csv as numbers, empty fields left out; none where there is no usable file."""
        return read_curve(self.folder / _folder(run) / layout.HISTORY)

    # --- cost ---

    def complexity(self, network: str, scale: int) -> dict[str, Any] | Absent:
        """`params`, `flops`, `activations` (exact integers), `alternatives`, `convention`, `versions`.

        `lower_bound` says whether operations of `uncounted` ("operation", "calls") are left out of FLOPs and
        activations, `value_reads` where the network looks at values.
        """

        def pick(document: dict[str, Any]) -> dict[str, Any] | None:
            record = document["scales"].get(str(scale))
            if record is None:
                return None
            counts = {key: int(record[key]) for key in ("params", "flops", "activations")}
            shared = {key: document.get(key) for key in ("convention", "versions")}
            return (
                {"alternatives": {}, "lower_bound": False, "uncounted": [], "value_reads": []}
                | record
                | counts
                | shared
            )

        return self._pick(layout.complexity(network), pick, "complexity")

    def memory(self, network: str) -> dict[str, Any] | Absent:
        """`bytes`, `measured` (on a device, or predicted), `predicted`, `layer`, `device`, `gpu`, `settings`."""

        def pick(document: dict[str, Any]) -> dict[str, Any] | None:
            record = document["networks"].get(network)
            if record is None:
                return None
            predicted, provenance = record["predicted"]["reference"], document.get("provenance", {})
            found = {
                "bytes": int(predicted["peak"]),
                "predicted": int(predicted["peak"]),
                "layer": str(predicted.get("layer", "")),
                "measured": False,
                "trouble": "",
                "flagged": False,
                "device": str(provenance.get("device") or ""),
                "gpu": provenance.get("gpu", ""),
                "settings": document.get("settings", {}),
            }
            on_device = record.get("measured", {}).get("reference", {})
            if on_device.get("status") == "measured":
                flagged = on_device.get("flagged", False)
                found |= {"bytes": int(on_device["peak"]), "measured": True, "flagged": flagged}
            elif on_device:
                found["trouble"] = f"{on_device.get('status')} on {found['gpu'] or 'the device'}{asked_size(on_device)}"
            return found

        return self._pick(layout.cost("memory"), pick, "memory")

    def runtime(self, network: str) -> dict[str, Any] | Absent:
        """The record of mode `eager`, with `provenance`, `settings` and the records of the other `modes`.

        A record's `status` is not always "timed".
        """

        def pick(document: dict[str, Any]) -> dict[str, Any] | None:
            modes = document["networks"].get(network)
            if modes is None:
                return None
            found = {mode: _timed(record) for mode, record in modes.items()}
            record = found.pop("eager")
            shared = {"provenance": document["provenance"], "settings": document["settings"]}
            return record | shared | {"modes": found}

        return self._pick(layout.cost("runtime"), pick, "runtime")

    def operation(self, title: str) -> dict[str, Any] | Absent:
        """One operation of Table 5 by the paper's name, with `provenance` and `settings`."""

        def pick(document: dict[str, Any]) -> dict[str, Any] | None:
            record = next((each for each in document["operations"].values() if each["title"] == title), None)
            if record is None:
                return None
            numbers = {key: float(record[key]) for key in ("total_ms", "per_image_ms", "share")}
            return record | numbers | {"provenance": document["provenance"], "settings": document["settings"]}

        return self._pick(layout.cost("operations"), pick, "operations")

    # --- files ---

    def _pick(
        self, path: str, pick: Callable[[dict], dict | None], stage: str, name: str = ""
    ) -> dict[str, Any] | Absent:
        """What `pick` takes out of a file; where there is none, what the command of the stage said."""
        document = self.json(path)
        if not document:
            return document if document.reason else Absent(self.complaint(stage, name))
        try:
            found = pick(document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            shown = self.shown(self.folder / path)
            return Absent(f"{shown} lacks a number ({_short(error)}): delete it and make it again")
        return Absent() if found is None else found

    def _json(self, path: str) -> dict[str, Any] | Absent:
        file = self.folder / path
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Absent()
        except (OSError, ValueError, RecursionError) as error:
            return Absent(f"{self.shown(file)} is damaged ({_short(error)}): delete it and make it again")
        if not isinstance(content, dict) or not content:
            return Absent(f"{self.shown(file)} does not hold what it should: delete it and make it again")
        return content

    def complaint(self, stage: str, name: str = "") -> str:
        """What a command of the stage said before it gave up, from its log; "" where it said nothing."""
        told = f"safmn {stage}: "
        lines = _lines(self.folder / layout.log(stage, name))
        said = [line for line in lines if line.startswith(told) and not line.startswith(f"{told}warning: ")]
        return f"failed: {said[-1].removeprefix(told)}" if said else ""

    def shown(self, file: Path) -> str:
        """A path for messages: below the study's folder, so that no machine's paths stand in tables."""
        try:
            return str(file.relative_to(self.folder.parent))
        except ValueError:
            return file.name


def _folder(run: Run) -> str:
    return layout.run(run.variant, run.scale, run.seed)


def asked_size(record: dict[str, Any]) -> str:
    """`with an LR image of 320x180`, a blank before it, where a record of a failure names the size; else ""."""
    size = record.get("requested_lr")
    return f" with an LR image of {size.get('width')}x{size.get('height')}" if size else ""


def _timed(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a mode, its times as numbers."""
    times = ("median_ms", "mean_ms") if record["status"] == "timed" else ()
    return record | {key: float(record[key]) for key in times}


def first_line(file: Path) -> str:
    """The first line with anything in it, shortened; "" where there is no such file."""
    return next((line[:500] for line in _lines(file) if line), "")


def read_curve(file: Path) -> list[dict[str, float]]:
    """A CSV of numbers, one mapping a row without the empty fields; none where the file is not usable."""
    try:
        with open(file, encoding="utf-8", newline="") as handle:
            return [{key: float(text) for key, text in line.items() if key and text} for line in csv.DictReader(handle)]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError, ValueError):
        return []


def _lines(file: Path) -> list[str]:
    try:
        return [one_line(line) for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())[:100]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
