"""`cells.csv`: every number of the paper's tables beside what a study measured. A pure join; nothing is computed anew.

A half-finished study, or an empty one, gives the same rows: a missing cell says why and what to do.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path

import pandas as pd

from safmn.data import sources
from safmn.errors import UserError
from safmn.files import atomic
from safmn.networks import published_weights
from safmn.networks.registry import Network
from safmn.paper import published, verdicts
from safmn.paper.published import Cell
from safmn.paper.verdicts import Verdict
from safmn.report import trained
from safmn.report.measured import METRICS, Absent, Benchmark, Results, Scores, benchmarks, identifier
from safmn.study import Study, differences_from_paper

COLUMNS = ["table", "row", "scale", "column", "published", "measured", "unit", "delta", "verdict", "note"]

UNPUBLISHED = "the paper has no such cell"
PAPER_GPU = "RTX 3090"  # Section 4.1
PAPER_IMAGES = 50  # Tables 2 and 5
PAPER_LR = (180, 320)  # height, width
COUNTS = {"params": "K", "flops": "G", "activations": "M"}
ABLATIONS = 3  # the table that variants stand in which the paper does not have
OWN = (1, 3, 4)  # the tables that get columns for the study's own benchmarks
NAMES = {
    "set5": "Set5",
    "set14": "Set14",
    "b100": "B100",
    "urban100": "Urban100",
    "manga109": "Manga109",
    "div2k_val": "DIV2K_val",
}


@dataclass(frozen=True)
class Figure:
    """What was measured for a cell: a number in `unit` (None if there is none) and what it is worth."""

    measured: float | None
    unit: str
    verdict: Verdict
    comparable: bool = True  # whether a difference to the print means anything


def collect(study: Study, results: Path | str) -> pd.DataFrame:
    """Every cell of Tables 1 to 5 for the networks of `study`, with the columns COLUMNS.

    Rows stand in the paper's order; variants that it does not have follow in Table 3, or stand beside the row that they
    name. `published` holds the printed digits ("" where the paper has none), `measured` and `delta` numbers in `unit`
    (NaN where there is none), `verdict` a word of `safmn.paper.verdicts.VERDICTS`, `note` its reason and how the
    number came about.

    Args:
        results: the folder `results/<study>`; may be empty or missing.
    """
    join = _Join(study, Results(results))
    rows = []
    for cell in join.cells():
        figure = join.figure(cell)
        rows.append(
            {
                "table": cell.table,
                "row": cell.row,
                "scale": cell.scale,
                "column": cell.column,
                "published": cell.printed,
                "measured": math.nan if figure.measured is None else figure.measured,
                "unit": figure.unit,
                "delta": _delta(cell, figure),
                "verdict": figure.verdict.verdict,
                "note": figure.verdict.note,
            }
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.astype({"table": int, "scale": int, "measured": float, "delta": float})


def write(frame: pd.DataFrame, file: Path | str) -> None:
    """Writes `cells.csv`, every digit of every number."""
    with atomic(file) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def read(file: Path | str) -> pd.DataFrame:
    """Reads `cells.csv` back as `collect` returned it; UserError where it cannot be read."""
    text = dict.fromkeys(("row", "column", "published", "unit", "verdict", "note"), str)
    try:
        frame = pd.read_csv(file, dtype=text, keep_default_na=False, na_values={"measured": [""], "delta": [""]})
        if list(frame.columns) != COLUMNS:
            raise ValueError("its columns are others")
        return frame.astype({"table": int, "scale": int, "measured": float, "delta": float})
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} is not readable ({reason}): `safmn tables` makes it anew") from error


def is_collapsed(note: str) -> bool:
    """Whether a cell was measured with weights from before a collapse: the paper's *."""
    return trained.COLLAPSED in note


def _delta(cell: Cell, figure: Figure) -> float:
    if figure.measured is None or not cell.printed or not figure.comparable:
        return math.nan
    if not math.isfinite(figure.measured):
        return figure.measured
    # In decimals, so that 13.555 - 13.56 is not -0.00500000000000078.
    return float(Decimal(repr(figure.measured)) - Decimal(cell.printed))


class _Join:
    """One study and what lies in its folder."""

    def __init__(self, study: Study, results: Results) -> None:
        from safmn.networks import all_networks

        self.study = study
        self.results = results
        known = all_networks()
        self.networks: dict[str, Network] = {name: known[name] for name in [*study.variants, *study.networks]}
        self.benchmarks = {each.id: each for each in benchmarks(study)}

    # --- which cells there are ---

    def cells(self) -> Iterable[Cell]:
        """Every cell, in the order of print; blank ones that the study fills follow those of their row."""
        printed = published.cells(self.networks.values())
        for table in published.TABLES:
            rows: dict[tuple[str, str, int], list[Cell]] = {}
            for cell in printed:
                if cell.table == table:
                    rows.setdefault((cell.label, cell.row, cell.scale), []).append(cell)
            if table in OWN and table != 1:
                for label, row, _ in list(rows):  # a study without x4 shows its ablations where they are
                    for scale in self.ablation_scales:
                        rows.setdefault((label, row, scale), [])
            if table == ABLATIONS:
                for name in self.study.variants:
                    title = self.networks[name].title
                    if not self.networks[name].rows:
                        rows |= {(title, name, scale): [] for scale in self.ablation_scales}
                place = {name: number for number, name in enumerate(self.study.variants)}  # beside their neighbours
                rows = dict(sorted(rows.items(), key=lambda item: place.get(item[0][1], len(place))))
            for (label, row, scale), own in rows.items():
                yield from own
                if table in OWN:
                    yield from self._unprinted(table, label, row, scale, {cell.column for cell in own})

    def _unprinted(self, table: int, label: str, row: str, scale: int, printed: set[str]) -> Iterable[Cell]:
        """The cells of a row that the paper leaves blank or does not have, and that the study has or may get."""
        if scale not in (self.study.scales if table == 1 else self.ablation_scales):
            return
        if not printed:
            yield from (Cell(table, label, row, scale, column, "", unit) for column, unit in COUNTS.items())
        for benchmark in self.benchmarks.values():
            for metric in METRICS:
                column = f"{benchmark.id}_{metric}"
                if column not in printed:
                    yield Cell(table, label, row, scale, column, "", "dB" if metric == "psnr" else "")

    @cached_property
    def ablation_scales(self) -> list[int]:
        """Where Tables 3 and 4 are: x4 as in the paper, or what the study has instead."""
        return [4] if 4 in self.study.scales else self.study.scales

    # --- what each holds ---

    def figure(self, cell: Cell) -> Figure:
        """The measured side of a cell."""
        if cell.column in COUNTS:
            return self._count(cell)
        if cell.column == "gpu_memory":
            return self._memory(cell)
        if cell.column == "runtime":
            return self._runtime(cell)
        if cell.table == 5:
            return self._operation(cell)
        return self._quality(cell)

    def _count(self, cell: Cell) -> Figure:
        record = self.results.complexity(cell.row, cell.scale)
        if isinstance(record, Absent):
            return _missing(cell, record.reason or "not counted yet: `snakemake`")
        exact = record[cell.column]
        scaled = float(Decimal(exact) / published.UNITS[cell.unit])
        if not cell.printed:
            return _beyond(scaled, cell, "")
        alternatives = record["alternatives"].get(cell.column, ())
        return Figure(scaled, cell.unit, verdicts.count(cell.printed, cell.unit, exact, alternatives))

    def _memory(self, cell: Cell) -> Figure:
        record = self.results.memory(cell.row)
        if isinstance(record, Absent):
            return _missing(cell, record.reason or "not predicted yet: `snakemake`")
        where = f"in {record['layer']}" if record["layer"] else "in the network itself"
        if record["measured"]:
            note = f"measured on {record['gpu'] or 'a GPU'}; predicted {record['predicted'] / 2**20:.2f} MiB"
            if record["flagged"]:
                note += ", more than 10 % off: one of the two is to be explained"
        else:
            note = f"predicted without a GPU, peak {where}"
            if record["trouble"]:
                note = f"{record['trouble']}; {note}"
        verdict = verdicts.cost(cell.printed, record["bytes"] / 2**20, **_other_size(record["settings"]))
        return Figure(record["bytes"] / 2**20, cell.unit, _with(verdict, note))

    def _runtime(self, cell: Cell) -> Figure:
        record = self.results.runtime(cell.row)
        if isinstance(record, Absent):
            return _missing(cell, record.reason or "not timed yet: `snakemake`")
        if record["status"] != "timed":
            size = record.get("requested_lr") or {}
            asked = f" with an LR image of {size.get('width')}x{size.get('height')}" if size else ""
            reason = record.get("message") or record.get("reason") or "no reason kept"
            return _missing(cell, f"{record['status']}{asked}: {reason}")
        settings = record["settings"]
        note = [f"mean of {settings.get('images')} images, median {record['median_ms']:.2f} ms"]
        if "spread_percent" in record:
            note.append(f"processes differ by {float(record['spread_percent']):.1f} %")
        if "ratio_to_safmn" in record:
            note.append(f"{float(record['ratio_to_safmn']):.3f} times SAFMN in the same run")
        habit = record.get("habit") or {}
        if habit.get("status") == "timed":
            note.append(f"one pass without warm-up {float(habit['mean_ms']):.2f} ms")
        return self._time(cell, record["mean_ms"], record["provenance"], settings, "; ".join(note))

    def _operation(self, cell: Cell) -> Figure:
        title = next(title for title, column in published.OPERATIONS.items() if column == cell.column)
        record = self.results.operation(title)
        if isinstance(record, Absent):
            return _missing(cell, record.reason or "not timed yet: `snakemake`")
        images = record["settings"].get("images")
        note = f"{record['share']:.1%} of the forward pass under the profiler"
        if images != PAPER_IMAGES:
            note += f"; of {images} images, scaled to {PAPER_IMAGES}"
        return self._time(cell, PAPER_IMAGES * record["per_image_ms"], record["provenance"], record["settings"], note)

    def _time(self, cell: Cell, value: float, provenance: dict, settings: dict, note: str) -> Figure:
        """A time is comparable on the paper's GPU only, and one of a CPU is never shown as if it were a GPU's."""
        name = trained.device(provenance)
        if provenance.get("device") != "cuda":
            kind = "CPU" if provenance.get("device") == "cpu" else name
            reason = f"time of a {kind}, not of a GPU: {name}"
            return Figure(
                value, f"{cell.unit} ({kind})", _with(verdicts.not_comparable(reason), note), comparable=False
            )
        limits = _other_size(settings)
        if PAPER_GPU not in name:
            limits = {"comparable": False, "reason": f"measured on {name}, printed for an {PAPER_GPU}"}
        verdict = verdicts.cost(cell.printed, value, **limits)
        return Figure(value, cell.unit, _with(verdict, note if name in verdict.note else f"{note}; {name}"))

    # --- quality ---

    def _quality(self, cell: Cell) -> Figure:
        identity, metric = cell.column.rsplit("_", 1)
        benchmark = self.benchmarks.get(identity)
        if benchmark is None:
            return _missing(cell, f"the study does not test on {NAMES.get(identity, identity)}")
        trains = cell.row in self.study.variants and self.study.training is not None
        figure = (self._trained if trains else self._evaluated)(cell, benchmark, metric)
        if figure.measured is None and identity in self._out_of_reach:
            return _missing(cell, self._out_of_reach[identity])
        if figure.measured is None and self._has_weights(cell, trains):
            waits = self._without_data(cell.scale, trains)
            return _missing(cell, waits) if waits else figure
        return figure

    def _has_weights(self, cell: Cell, trains: bool) -> bool:
        """Whether the network could be evaluated if all data were there."""
        if cell.scale not in (self.study.scales_of(cell.row) if trains else self.study.scales):
            return False
        at_hand = published_weights.at_hand(cell.row, cell.scale, *self.study.weights_roots)
        return trains or cell.row == "bicubic" or at_hand is not None

    def _without_data(self, scale: int, trains: bool) -> str:
        """Which dataset a result waits for that could not be downloaded or packed, and why; "" for none."""
        data = self.study.data
        texts = [*data["train"], *data["validation"], *data["test"]] if trains else data["test"]
        names = dict.fromkeys(sources.parse_selection(text)[0] for text in texts)
        told = ((name, self.results.unpacked(name, scale)) for name in names)
        return next((f"{name} {reason}" for name, reason in told if reason), "")

    @cached_property
    def _out_of_reach(self) -> dict[str, str]:
        """Benchmarks that the study goes without, since they are given on application only: id -> how to get them."""
        roots, folders = self.study.roots, self.study.data["folders"]
        return {
            each.id: f"{each.name} is not at hand: {sources.DATASETS[each.name].obtain}"
            for each in self.benchmarks.values()
            if not sources.can_be_expected(each.selection, roots, folders)
        }

    def _trained(self, cell: Cell, benchmark: Benchmark, metric: str) -> Figure:
        if cell.scale not in self.study.scales_of(cell.row):
            return _missing(cell, f"the study does not train it at x{cell.scale}")
        found = trained.collect(self.study, self.results, cell.row, cell.scale, benchmark)
        if not found.best:
            return _missing(cell, "; ".join(dict.fromkeys(found.absent.values())))
        spread = found.spread(metric)
        note = trained.note(found, metric)
        authors = self._published_scores(cell.row, cell.scale, benchmark)
        if not isinstance(authors, Absent):
            note += f"; published weights give {trained.figure(authors.mean(metric), metric)}"
        if not cell.printed:
            return _beyond(spread.mean, cell, note)
        reasons = list(self._departures)
        for run in self.study.runs(cell.row):
            if run.scale == cell.scale and run.seed in found.best:
                reasons += trained.departures(self.study, run, found.records.get(run.seed, {}))
        reasons += _partial(benchmark, next(iter(found.best.values())))
        verdict = verdicts.training(
            cell.printed,
            metric,
            spread.mean,
            interval=spread.interval.ends,
            comparable=not reasons,
            reason="; ".join(dict.fromkeys(reasons)),
        )
        if found.collapses:  # the mark comes first, wherever the verdict's own reason ends
            return Figure(spread.mean, cell.unit, Verdict(verdict.verdict, _joined(note, verdict.note)))
        return Figure(spread.mean, cell.unit, _with(verdict, note))

    def _evaluated(self, cell: Cell, benchmark: Benchmark, metric: str) -> Figure:
        network = self.networks[cell.row]
        if cell.scale not in self.study.scales:
            return _missing(cell, f"the study has no x{cell.scale}")
        scores = self._published_scores(cell.row, cell.scale, benchmark)
        if isinstance(scores, Absent):
            return _missing(cell, scores.reason or weights_reason(network, cell.scale, self.study))
        value = scores.mean(metric)
        note = f"{'no weights' if cell.row == 'bicubic' else 'published weights'}, {len(scores)} images"
        if not cell.printed:
            return _beyond(value, cell, note)
        partial = _partial(benchmark, scores)
        if partial:
            return Figure(value, cell.unit, _with(verdicts.not_comparable(partial[0]), note))
        verdict = verdicts.evaluation(cell.printed, metric, value)
        if verdict.verdict == verdicts.CONTRADICTED and cell.row == "bicubic":
            verdict = self._older_protocol(cell, benchmark, metric) or verdict
        return Figure(value, cell.unit, _with(verdict, note))

    def _published_scores(self, network: str, scale: int, benchmark: Benchmark) -> Scores | Absent:
        folders = ("published", "none") if network == "bicubic" else ("published",)
        found = [self.results.scores(network, scale, folder, benchmark) for folder in folders]
        return next((each for each in found if not isinstance(each, Absent)), found[0])

    def _older_protocol(self, cell: Cell, benchmark: Benchmark, metric: str) -> Verdict | None:
        """Bicubic's row was made when Y was rounded first and reduced and enlarged itself; `legacy` holds that."""
        scores = self.results.scores(cell.row, cell.scale, "legacy", benchmark)
        if isinstance(scores, Absent):
            return None
        value = scores.mean(metric)
        if verdicts.evaluation(cell.printed, metric, value).verdict == verdicts.CONTRADICTED:
            return None
        shown = trained.figure(value, metric)
        return Verdict(
            verdicts.EXPLAINED,
            f"the older protocol (Y rounded to uint8, then itself reduced and enlarged) gives {shown}",
        )

    @cached_property
    def _departures(self) -> list[str]:
        return differences_from_paper(self.study)


def weights_reason(network: Network, scale: int, study: Study) -> str:
    """Why published weights were not evaluated, and where they could come from."""
    if network.name == "bicubic":
        return "not evaluated yet: `snakemake`"
    if published_weights.at_hand(network.name, scale, *study.weights_roots):
        return "the weights are at hand, but not evaluated yet: `snakemake`"
    where = published_weights.obtain(network.name, scale)
    return f"weights of {network.title} x{scale} are not at hand: {where}"


def benchmark_title(identity: str, study: Study) -> str:
    """A benchmark's name for the header of a table."""
    own = next((each for each in benchmarks(study) if each.id == identity), None)
    if own is None:
        return NAMES.get(identity, identity)
    return own.name if own.id == identifier(own.name) else own.selection


def _partial(benchmark: Benchmark, scores: Scores) -> list[str]:
    if benchmark.images is not None and len(scores) != benchmark.images:
        return [f"{len(scores)} of the {benchmark.images} images of {benchmark.name}"]
    return []


def _other_size(settings: dict) -> dict:
    """Arguments of `verdicts.cost`: an LR image of another size is another quantity."""
    size = (settings.get("height"), settings.get("width"))
    if size == PAPER_LR or None in size:
        return {}
    return {"comparable": False, "reason": f"an LR image of {size[1]}x{size[0]} instead of {PAPER_LR[1]}x{PAPER_LR[0]}"}


def _missing(cell: Cell, reason: str) -> Figure:
    return Figure(None, cell.unit, verdicts.missing(reason))


def _beyond(value: float, cell: Cell, note: str) -> Figure:
    if trained.COLLAPSED in note:
        return Figure(value, cell.unit, Verdict(verdicts.NOT_COMPARABLE, _joined(note, UNPUBLISHED)))
    return Figure(value, cell.unit, _with(verdicts.not_comparable(UNPUBLISHED), note))


def _with(verdict: Verdict, note: str) -> Verdict:
    return Verdict(verdict.verdict, _joined(verdict.note, note))


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
