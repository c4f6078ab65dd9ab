"""`networks.csv`: all figures of a study, a row for each network and scale. It only joins files.

Columns, exact and without rounding:

- `network`, `title`, `scale`;
- `params`, `flops`, `activations`, `convolutions`: whole numbers at an output of 1280x720; `lower_bound`: True where an
  operation could not be counted, so that FLOPs and activations are at least that;
- `predicted_memory`, `measured_memory`: peak of inference in bytes, with the GPU in `memory_device`;
- `time`: median of one image in ms, with the device in `time_device`; ", imported" behind a device as above;
- `weights`: trained (here), published (by the authors), none (bicubic), with ", imported" behind it where somebody else
  trained or evaluated (`safmn import`); `seeds` of trained ones, separated by spaces;
- `<test set>_psnr`, `_ssim` on Y and `_psnr_rgb`, `_ssim_rgb`, `_lpips` as far as they were measured: means over
  images, then over `seeds`. A figure is blank where one of these seeds lacks it, since its evaluation is older or not
  on that test set. `cells.csv` has the mean of the other seeds on Y, and says which seeds are left out.

Any other blank field was not measured; `cells.csv` and the page say why.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from safmn import layout
from safmn.files import write_csv
from safmn.networks import all_networks
from safmn.quantities import COLUMNS, QUALITIES
from safmn.report import trained
from safmn.report.imported import MARK, Imported
from safmn.report.measured import Absent, Record, Results, benchmarks
from safmn.report.qualities import BICUBIC, PUBLISHED
from safmn.study import Study


def write(study: Study, lines: Sequence[Mapping[str, Any]], file: Path | str) -> None:
    """Write `networks.csv`."""
    write_csv(file, _columns(study, lines), lines)


def frame(study: Study, folder: Path | str | None = None) -> pd.DataFrame:
    """Return the content of `networks.csv` as a data frame; `folder` is the study's own by default."""
    rows = list(collect(study, Results(study.folder(folder))))
    whole = ("params", "flops", "activations", "convolutions", "predicted_memory", "measured_memory")
    return pd.DataFrame(rows, columns=_columns(study, rows)).astype(dict.fromkeys(whole, "Int64"))


def collect(study: Study, results: Results) -> Iterator[dict[str, Any]]:
    """Yield a row for each network of the study at each of its scales; absent figures are left out."""
    known, imported = all_networks(), Imported(results.folder)
    titles = {name: known[name].title for name in (*study.variants, *study.networks)}
    for row, title in (titles | {row: network.title for row, network in study.retrained.items()}).items():
        name, trains = study.network_of(row), study.trains(row)
        scales = study.scales_of(name) if trains else [at for at in study.scales if at in known[name].scales]
        for scale in scales:
            line = {"network": row, "title": title, "scale": scale} | _costs(results, name, scale)
            line |= _quality(study, results, name, scale, trains)
            yield line | _marks(imported, study, name, line)


def _marks(imported: Imported, study: Study, name: str, line: dict[str, Any]) -> dict[str, str]:
    """Return the fields that say where numbers come from, of those that somebody else measured."""
    scale, weights = line["scale"], str(line.get("weights", ""))
    runs = [run for run in study.runs(name) if run.scale == scale] if weights == "trained" else []
    made = [run.record for run in runs]
    files = {
        "weights": made or [layout.evaluation(name, scale, PUBLISHED)],
        "time_device": [layout.cost("runtime")],
        "memory_device": [layout.cost("memory")],
    }
    held = [field for field, of in files.items() if line.get(field) and any(map(imported.holds, of))]
    return {field: f"{line[field]}, {MARK}" for field in held}


def _columns(study: Study, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    present = {column for row in rows for column in row}
    own = [f"{benchmark.id}_{figure}" for benchmark in benchmarks(study) for figure in QUALITIES]
    return [*COLUMNS, *(name for name in own if name in present or not name.endswith("_lpips"))]  # which is optional


def _costs(results: Results, name: str, scale: int) -> dict[str, Any]:
    costs: dict[str, Any] = {}
    counts = results.complexity(name, scale)
    if not isinstance(counts, Absent):
        columns = ("params", "flops", "activations", "convolutions", "lower_bound")
        costs |= {column: counts[column] for column in columns if column in counts}
    memory = results.memory(name)
    if not isinstance(memory, Absent) and _is_of(memory, scale):
        costs["predicted_memory"] = memory["predicted"]
        if memory["measured"]:
            costs |= {"measured_memory": memory["bytes"], "memory_device": memory["gpu"] or memory["device"]}
    time = results.runtime(name)
    if not isinstance(time, Absent) and _is_of(time, scale) and time.get("status") == "timed":
        costs |= {"time": time["median_ms"], "time_device": trained.device(time.get("provenance") or {})}
    return costs


def _is_of(record: Record, scale: int) -> bool:
    return bool((record.get("settings") or {}).get("scale", 4) == scale)


def _quality(study: Study, results: Results, name: str, scale: int, trains: bool) -> dict[str, Any]:
    """Return where the weights come from, and the mean of each figure that all of the evaluated seeds have."""
    weights = "trained" if trains else "none" if name == BICUBIC else PUBLISHED
    runs = [run for run in study.runs(name) if run.scale == scale] if trains else []
    evaluations = {str(run.seed): layout.trained(run.seed, "best") for run in runs} if trains else {"": PUBLISHED}
    seeds: dict[str, dict[str, float]] = {}
    for seed, which in evaluations.items():
        for benchmark in benchmarks(study):
            if scores := results.scores(name, scale, which, benchmark):
                means = {f"{benchmark.id}_{figure}": scores.mean(figure) for figure in scores.figures}
                seeds.setdefault(seed, {}).update(means)
    if not seeds:
        return {}
    first, *others = seeds.values()
    shared = [column for column in first if all(column in other for other in others)]
    averages = {column: math.fsum(own[column] for own in seeds.values()) / len(seeds) for column in shared}
    return {"weights": weights, "seeds": " ".join(seeds)} | averages
