"""What `evaluation.json` says beyond the scores: where LR came from, which weights were taken, warnings.

Records of earlier versions say none of it; what is not there is not said.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from safmn import layout
from safmn.report.measured import Benchmark, Results

WEIGHTS = {
    "ema": "the averaged weights of the file were taken",
    "raw": "the weights of the file that are not averaged were taken",
}


@dataclass(frozen=True)
class Told:
    """What is to be said at a cell.

    Attributes:
        quiet: for its note alone.
        loud: for its note and, in a table, beside the number: what was guessed, chosen or warned of.
        device: the kind of device that evaluated, "" where it was not noted.
    """

    quiet: tuple[str, ...] = ()
    loud: tuple[str, ...] = ()
    device: str = ""

    @property
    def said(self) -> str:
        """All of it."""
        return "; ".join([*self.loud, *self.quiet])


def record(results: Results, network: str, scale: int, which: str) -> Mapping[str, Any]:
    """The content of an `evaluation.json`, empty where there is no usable one."""
    return results.json(layout.evaluation(network, scale, which)) or {}


def of_benchmark(found: Mapping[str, Any], key: str, benchmark: Benchmark) -> Mapping[str, Any]:
    """What a record holds under `key` for a benchmark; empty where nothing.

    By its name, or by the path of the packed dataset where two parts of one were evaluated.
    """
    named = found.get(key)
    part = benchmark.selection.removeprefix(benchmark.name)  # "[:2]"
    for name, each in named.items() if isinstance(named, Mapping) else ():
        if name == benchmark.name or (f"/{benchmark.name}/" in name and name.partition("[")[2] == part[1:]):
            return each if isinstance(each, Mapping) else {}
    return {}


def told(results: Results, network: str, scale: int, which: Iterable[str], benchmark: Benchmark) -> Told:
    """What the records of one or several files of weights say of a benchmark; `which` as in `safmn.layout.quality`."""
    quiet: dict[str, None] = {}
    loud: dict[str, None] = {}
    devices = set()
    for found in (record(results, network, scale, each) for each in which):
        lr = of_benchmark(found, "lr", benchmark)
        if lr.get("origin") == "files":
            quiet[f"LR read from {_short(lr.get('folder')) or 'files'}"] = None
        elif lr.get("origin") in ("made", "mixed"):
            loud[_made(lr)] = None
        weights = found.get("weights")
        chosen = WEIGHTS.get(str(weights.get("which"))) if isinstance(weights, Mapping) else None
        if chosen:
            loud[chosen] = None
        for warning in found.get("warnings") or ():
            if isinstance(warning, Mapping) and warning.get("dataset") in (None, benchmark.name, benchmark.selection):
                loud[str(warning.get("text"))] = None
        devices.add(device_kind(found))
    return Told(tuple(quiet), tuple(loud), "+".join(sorted(filter(None, devices))))


def device_kind(found: Mapping[str, Any]) -> str:
    """The kind of device that a record names: "cpu", "cuda" or another of torch; "" where it names none."""
    provenance = found.get("provenance")
    return str(provenance.get("device") or "") if isinstance(provenance, Mapping) else ""


def _made(lr: Mapping[str, Any]) -> str:
    count, border = lr.get("made"), lr.get("border")
    which = f"LR of {count} images" if lr["origin"] == "mixed" and count else "LR"
    return f"{which} made from HR, not read from files" + (f" ({border} border)" if border else "")


def _short(folder: Any) -> str:
    """The last two parts of a folder, which say what it is on any machine."""
    return "/".join(PurePath(folder).parts[-2:]) if isinstance(folder, str) else ""
