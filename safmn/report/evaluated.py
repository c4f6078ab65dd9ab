"""Read from `evaluation.json` what is not in the scores: where LR came from, which weights were used, warnings.

Records of earlier versions hold less; nothing is said about what a record does not hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from safmn import layout
from safmn.report.measured import Benchmark, Record, Results

WEIGHTS = {
    "ema": "the averaged weights of the file were used",
    "raw": "the weights of the file that are not averaged were used",
}


@dataclass(frozen=True)
class Remarks:
    """What is to be said about an evaluation.

    Attributes:
        quiet: For the cell's note only.
        loud: For the note and, in a table, beside the number: what was guessed or chosen, and warnings.
        device: The type of the device that evaluated, "" where it was not recorded.
    """

    quiet: tuple[str, ...] = ()
    loud: tuple[str, ...] = ()
    device: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "; ".join([*self.loud, *self.quiet])


def record(results: Results, network: str, scale: int, which: str) -> Record:
    """Return the content of an `evaluation.json`, empty where there is no usable one."""
    return results.json(layout.evaluation(network, scale, which)) or {}


def of_benchmark(record: Record, key: str, benchmark: Benchmark) -> Record:
    """Return what a record holds under `key` for a test set; empty where it holds nothing.

    Test sets are called by their names, or by the path of the packed dataset where two parts of one were evaluated.
    """
    part = benchmark.selection.removeprefix(benchmark.name)  # "[:2]"
    for name, part_record in _mapping(record.get(key)).items():
        if name == benchmark.name or (f"/{benchmark.name}/" in name and name.partition("[")[2] == part[1:]):
            return _mapping(part_record)
    return {}


def remarks(results: Results, network: str, scale: int, which: Iterable[str], benchmark: Benchmark) -> Remarks:
    """Collect the remarks on the evaluations of several files of weights; `which` as in `safmn.layout.quality`."""
    quiet: dict[str, None] = {}  # as an ordered set
    loud: dict[str, None] = {}
    devices = set()
    for evaluation in (record(results, network, scale, weights) for weights in which):
        lr = of_benchmark(evaluation, "lr", benchmark)
        if lr.get("origin") == "files":
            quiet[f"LR read from {_short(lr.get('folder')) or 'files'}"] = None
        elif lr.get("origin") == "made":
            border = f" ({lr['border']} border)" if lr.get("border") else ""
            loud[f"LR made from HR, not read from files{border}"] = None
        if chosen := WEIGHTS.get(str(_mapping(evaluation.get("weights")).get("which"))):
            loud[chosen] = None
        for warning in map(_mapping, evaluation.get("warnings") or ()):
            if warning and warning.get("dataset") in (None, benchmark.name, benchmark.selection):
                loud[str(warning.get("text"))] = None
        devices.add(device_type(evaluation))
    return Remarks(tuple(quiet), tuple(loud), "+".join(sorted(filter(None, devices))))


def device_type(record: Record) -> str:
    """Return the type of the device that a record names: "cpu", "cuda" or another of torch; "" where it names none."""
    return str(_mapping(record.get("provenance")).get("device") or "")


def _mapping(value: Any) -> Record:
    """Return `value` if it is an object, else an empty one: a record may be damaged or old."""
    return value if isinstance(value, dict) else {}


def _short(folder: Any) -> str:
    """Return the last two parts of a folder, which mean the same on any machine."""
    return "/".join(PurePath(folder).parts[-2:]) if isinstance(folder, str) else ""
