"""What lies under `results/<study>/`: read as far as it is there. An absent figure is a reason, never an error."""

import csv
import json
import math
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from safmn.data import catalogue
from safmn.data.sources import DATASETS, parse_selection
from safmn.errors import one_line
from safmn.study import Run, Study

METRICS = ("psnr", "ssim")


@dataclass(frozen=True)
class Absent:
    """There is no figure. `reason` is empty where the file simply is not there, else says what is wrong with it."""

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


def benchmarks(study: Study) -> list[Benchmark]:
    """The study's test sets; two parts of one dataset get ids of their own."""
    names = [parse_selection(text)[0] for text in study.data["test"]]
    often = Counter(name.lower() for name in names)
    found = []
    for text, name in zip(study.data["test"], names, strict=True):
        base = name if often[name.lower()] == 1 else text
        known = DATASETS.get(name)
        found.append(Benchmark(text, name, identifier(base), known.images if known else None))
    return list({each.id: each for each in found}.values())


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


class Results:
    """The folder `results/<study>/` of a study, finished or not. Every file is read once."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.json = cache(self._json)
        self.scores = cache(self._scores)

    # --- quality ---

    def _scores(self, network: str, scale: int, weights: str, dataset: Benchmark) -> Scores | Absent:
        """Per-image scores of `quality/<network>/x<scale>/<weights>/<dataset>.csv`."""
        stem = dataset.name if dataset.id == identifier(dataset.name) else dataset.id
        file = self.folder / "quality" / network / f"x{scale}" / weights / f"{stem}.csv"
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
        return self.json(f"training/{run.folder}/run.json")

    def unpacked(self, dataset: str, scale: int) -> str:
        """Why a dataset is not packed, as the job that downloaded or packed it said; "" where nothing was said."""
        if (self.folder / "data" / dataset / f"x{scale}" / "index.json").exists():
            return ""
        source = catalogue.source_of(dataset) if dataset in catalogue.FOLDERS else dataset
        return self.complaint("fetch", source) or self.complaint("pack", f"{dataset}_x{scale}")

    def untrained(self, run: Run) -> str:
        """Why a run has no weights, and what to do."""
        record = self.record(run)
        folder = self.folder / "training" / run.folder
        target = f"`snakemake train_{run.variant}`"
        if isinstance(record, Absent) and record.reason:
            return record.reason
        failure = first_line(folder / "failure.txt")
        if failure:
            return f"training failed: {failure}"
        if (folder / "state").exists():
            return f"training is not finished: {target} goes on with it"
        return f"not trained yet: {target}"

    def history(self, run: Run) -> list[dict[str, float]]:
        """The rows of a run's history.csv as numbers, empty fields left out; none where there is no usable file."""
        return read_curve(self.folder / "training" / run.folder / "history.csv")

    # --- cost ---

    def complexity(self, network: str, scale: int) -> dict[str, Any] | Absent:
        """`params`, `flops`, `activations` (exact integers) and `alternatives`, with `convention` and `versions`."""
        file = f"cost/complexity/{network}.json"
        document = self.json(file)
        if not document:
            return document if document.reason else Absent(self.complaint("complexity", network))
        try:
            record = document["scales"].get(str(scale))
            if record is None:
                return Absent()
            counts = {key: int(record[key]) for key in ("params", "flops", "activations")}
            shared = {key: document.get(key) for key in ("convention", "versions")}
            return {"alternatives": {}} | record | counts | shared
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return self._unusable(file, error)

    def memory(self, network: str) -> dict[str, Any] | Absent:
        """`bytes`, `measured` (on a device, or predicted), `predicted`, `layer`, `gpu`, `settings`."""
        file = f"cost/memory/{network}.json"
        if not (self.folder / file).exists():
            file = "cost/memory.json"
        document = self.json(file)
        if not document:
            return document if document.reason else Absent(self.complaint("memory"))
        try:
            figures = document["networks"].get(network)
            if figures is None:
                return Absent()
            predicted = figures["predicted"]["reference"]
            found = {
                "bytes": int(predicted["peak"]),
                "predicted": int(predicted["peak"]),
                "layer": str(predicted.get("layer", "")),
                "measured": False,
                "trouble": "",
                "flagged": False,
                "gpu": document.get("provenance", {}).get("gpu", ""),
                "settings": document.get("settings", {}),
            }
            on_device = figures.get("measured", {}).get("reference", {})
            if on_device.get("status") == "measured":
                flagged = on_device.get("flagged", False)
                found |= {"bytes": int(on_device["peak"]), "measured": True, "flagged": flagged}
            elif on_device:
                size = on_device.get("requested_lr", {})
                found["trouble"] = (
                    f"{on_device.get('status')} on {found['gpu'] or 'the device'} with an LR image of "
                    f"{size.get('width')}x{size.get('height')}"
                )
            return found
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return self._unusable(file, error)

    def runtime(self, network: str) -> dict[str, Any] | Absent:
        """The record of mode `eager`, with `provenance`, `settings` and the records of the other `modes`.

        A record's `status` is not always "timed".
        """
        document = self.json("cost/runtime.json")
        if not document:
            return document if document.reason else Absent(self.complaint("runtime"))
        try:
            modes = document["networks"].get(network)
            if modes is None:
                return Absent()
            found = {mode: _timed(record) for mode, record in modes.items()}
            record = found.pop("eager")
            shared = {"provenance": document["provenance"], "settings": document["settings"]}
            return record | shared | {"modes": found}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return self._unusable("cost/runtime.json", error)

    def operation(self, title: str) -> dict[str, Any] | Absent:
        """One operation of Table 5 by the paper's name, with `provenance` and `settings`."""
        document = self.json("cost/operations.json")
        if not document:
            return document if document.reason else Absent(self.complaint("operations"))
        try:
            record = next((each for each in document["operations"].values() if each["title"] == title), None)
            if record is None:
                return Absent()
            figures = {key: float(record[key]) for key in ("total_ms", "per_image_ms", "share")}
            return record | figures | {"provenance": document["provenance"], "settings": document["settings"]}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return self._unusable("cost/operations.json", error)

    # --- files ---

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

    def _unusable(self, path: str, error: Exception) -> Absent:
        return Absent(f"{self.shown(self.folder / path)} lacks a figure ({_short(error)}): delete it and make it again")

    def complaint(self, stage: str, name: str = "") -> str:
        """What a command of the stage said before it gave up, from its log; "" where it said nothing."""
        log = self.folder / "logs" / (f"{stage}/{name}.log" if name else f"{stage}.log")
        said = [line for line in _lines(log) if line.startswith(f"safmn {stage}: ")]
        return f"failed: {said[-1].removeprefix(f'safmn {stage}: ')}" if said else ""

    def shown(self, file: Path) -> str:
        """A path for messages: below the study's folder, so that no machine's paths stand in tables."""
        try:
            return str(file.relative_to(self.folder.parent))
        except ValueError:
            return file.name


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
