"""Cells of PSNR and SSIM: results of networks that a study trained, of published weights, and of bicubic."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePath

from safmn import layout
from safmn.data import sources
from safmn.networks import all_networks, published_weights
from safmn.paper import published, verdicts
from safmn.paper.cell import MEASURED, PUBLISHED_WEIGHTS, TRAINED, Cell
from safmn.paper.verdicts import Verdict
from safmn.report import evaluated, trained
from safmn.report.measured import Absent, Benchmark, Record, Results, Scores, benchmarks, names
from safmn.study import Run, Study, differences_from_paper, own_departures

BICUBIC = "bicubic"
PUBLISHED, LEGACY = "published", "legacy"  # folders of evaluations, see `safmn.layout.quality`


class Qualities:
    """PSNR and SSIM of a study's networks, as far as they are available."""

    def __init__(self, study: Study, results: Results) -> None:
        self.study, self.results, self.networks = study, results, all_networks()
        self.benchmarks = {benchmark.id: benchmark for benchmark in benchmarks(study)}

    def fill(self, cell: Cell, trains: bool) -> Cell:
        """Return the cell with what was measured, or with the reason why nothing was.

        Args:
            cell: The cell.
            trains: Whether it is of weights that the study trains, and not of published ones.
        """
        identity, metric = cell.column.rsplit("_", 1)
        benchmark = self.benchmarks.get(identity)
        if benchmark is None:
            return cell.missing(f"the study does not test on {names().get(identity, identity)}")
        filled = (self._trained if trains else self._evaluated)(cell, benchmark, metric)
        if not filled.is_missing:
            return filled
        if identity in self._out_of_reach:
            return cell.missing(self._out_of_reach[identity])
        reason = self._without_data(cell.network, cell.scale, trains) if self._has_weights(cell, trains) else ""
        return cell.missing(reason) if reason else filled

    # --- why nothing was measured ---

    def _has_weights(self, cell: Cell, trains: bool) -> bool:
        """Return whether the network could be evaluated if all data were available."""
        if trains:
            return cell.scale in self.study.scales_of(cell.network)
        return cell.scale in self.study.scales and (cell.network == BICUBIC or self._has_published_weights(cell))

    def _has_published_weights(self, cell: Cell) -> bool:
        return published_weights.at_hand(cell.network, cell.scale, *self.study.weights_roots) is not None

    def _without_data(self, network: str, scale: int, trains: bool) -> str:
        """Name the dataset that could not be downloaded or packed, and say why; "" if there is none."""
        data = self.study.data
        texts = [*self.study.train_of(network), *data.validation, *data.test] if trains else data.test
        for name in dict.fromkeys(sources.parse_selection(text)[0] for text in texts):
            if reason := self.results.unpacked(name, scale):
                return f"{name} {reason}"
        return ""

    @cached_property
    def _out_of_reach(self) -> dict[str, str]:
        """Test sets that the study lacks, since they are given on application only: id -> how to get them."""
        roots, folders = self.study.roots, self.study.data.folders
        return {
            benchmark.id: f"{benchmark.name} is not available: {sources.DATASETS[benchmark.name].obtain}"
            for benchmark in self.benchmarks.values()
            if not sources.can_be_expected(benchmark.selection, roots, folders)
        }

    def _unevaluated(self, cell: Cell) -> str:
        """Say why published weights or bicubic were not evaluated, and what to do."""
        if cell.network == BICUBIC:
            return "not evaluated yet: `snakemake`"
        if self._has_published_weights(cell):
            return "the weights are available, but not evaluated yet: `snakemake`"
        where = published_weights.obtain(cell.network, cell.scale)
        return f"weights of {self.networks[cell.network].title} x{cell.scale} are not available: {where}"

    # --- trained here ---

    def _trained(self, cell: Cell, benchmark: Benchmark, metric: str) -> Cell:
        name, scale = cell.network, cell.scale
        if scale not in self.study.scales_of(name):
            return cell.missing(f"the study does not train it at x{scale}")
        runs = trained.collect(self.study, self.results, name, scale, benchmark)
        if not runs.best:
            return cell.missing("; ".join(dict.fromkeys(runs.absent.values())))
        spread = runs.spread(metric)
        folders = [layout.trained(seed, "best") for seed in runs.best]
        remarks = evaluated.remarks(self.results, name, scale, folders, benchmark)
        infinite = dict.fromkeys(filter(None, [_infinite(scores, metric) for scores in runs.best.values()]))
        notes = [trained.note(runs, metric), remarks.text, *infinite]
        authors = self.results.scores(name, scale, PUBLISHED, benchmark)
        if not isinstance(authors, Absent):
            notes.append(f"published weights give {trained.shown(authors.mean(metric), metric)}")
        verdict = None
        if cell.published:
            reasons = [*self._departures, *own_departures(self.study, name)]
            reasons += _partial(benchmark, next(iter(runs.best.values())))
            for run in self.study.runs(name):
                if run.scale == scale and run.seed in runs.best:
                    reasons += trained.departures(self.study, run, runs.records.get(run.seed, {}))
            verdict = verdicts.training(
                cell.published,
                metric,
                spread.mean,
                interval=spread.interval.ends,
                reason="; ".join(dict.fromkeys(reasons)),
            )
        return cell.filled(
            spread.mean,
            verdict,
            "; ".join(filter(None, notes)),
            low=spread.interval.low,
            high=spread.interval.high,
            std=spread.deviation,
            seeds=len(runs.best),
            device=runs.devices,
            collapsed=bool(runs.collapses),
            origin=TRAINED,
            remarks=(*remarks.loud, *infinite),
            files=tuple(Run(name, scale, seed).record for seed in runs.records),
        )

    @cached_property
    def _departures(self) -> list[str]:
        return differences_from_paper(self.study)

    # --- trained by others ---

    def _evaluated(self, cell: Cell, benchmark: Benchmark, metric: str) -> Cell:
        if cell.scale not in self.study.scales:
            return cell.missing(f"the study has no x{cell.scale}")
        scores = self.results.scores(cell.network, cell.scale, PUBLISHED, benchmark)
        if isinstance(scores, Absent):
            return cell.missing(scores.reason or self._unevaluated(cell))
        remarks = evaluated.remarks(self.results, cell.network, cell.scale, [PUBLISHED], benchmark)
        weights = "no weights" if cell.network == BICUBIC else "published weights"
        infinite = _infinite(scores, metric)
        note = "; ".join(filter(None, [f"{weights}, {len(scores)} images", remarks.text, infinite]))
        return cell.filled(
            scores.mean(metric),
            self._judged(cell, benchmark, metric, scores) if cell.published else None,
            note,
            device=remarks.device,
            origin=MEASURED if cell.network == BICUBIC else PUBLISHED_WEIGHTS,
            remarks=(*remarks.loud, infinite) if infinite else remarks.loud,
            files=(layout.evaluation(cell.network, cell.scale, PUBLISHED),),
        )

    def _judged(self, cell: Cell, benchmark: Benchmark, metric: str, scores: Scores) -> Verdict:
        """Decide about an evaluation; explained if the way in which the published value was measured gives it."""
        for reason in [*_partial(benchmark, scores), self._departing_weights(cell)]:
            if reason:
                return verdicts.not_comparable(reason)
        verdict = verdicts.evaluation(cell.published, metric, scores.mean(metric))
        if verdict.verdict != verdicts.CONTRADICTED:
            return verdict
        explain = self._older_protocol if cell.network == BICUBIC else self._authors_metric
        return explain(cell, benchmark, metric) or verdict

    def _departing_weights(self, cell: Cell) -> str:
        """Say why the authors' file is not the one behind the published value; "" if their source does not say so."""
        published_file = published_weights.find(cell.network, cell.scale)
        if not published_file or not published_file.departs:
            return ""
        weights = evaluated.record(self.results, cell.network, cell.scale, PUBLISHED).get("weights")
        if not isinstance(weights, Mapping) or "file" not in weights:
            return published_file.departs
        is_authors = PurePath(str(weights["file"])).name == published_file.remote.name
        # Otherwise it is a file of the user's own.
        return published_file.departs if is_authors or weights.get("sha256") == published_file.remote.sha256 else ""

    def _older_protocol(self, cell: Cell, benchmark: Benchmark, metric: str) -> Verdict | None:
        """Explain bicubic's row, made on Y itself by scripts that converted images of three channels only."""
        scores = self.results.scores(BICUBIC, cell.scale, LEGACY, benchmark)
        if isinstance(scores, Absent):
            return None
        value = scores.mean(metric)
        rest = ""
        if not verdicts.agrees(cell.published, metric, value):
            beside = self._printed_psnr(cell, benchmark)
            if not beside or not verdicts.agrees(beside, "psnr", scores.mean("psnr")):
                return None
            if not verdicts.agrees(cell.published, metric, value, verdicts.OLDER_SSIM_REST):
                return None
            rest = f"; a difference of {value - float(cell.published):+.4f} remains, while PSNR agrees"
        record = evaluated.record(self.results, BICUBIC, cell.scale, LEGACY)
        grey = _grey(evaluated.of_benchmark(record, "grey", benchmark), metric)
        return Verdict(
            verdicts.EXPLAINED,
            f"the older protocol (Y itself reduced and enlarged, then rounded to uint8) gives "
            f"{trained.shown(value, metric)}{grey}{rest}",
        )

    def _printed_psnr(self, cell: Cell, benchmark: Benchmark) -> str:
        """Return the published PSNR beside a published SSIM, "" where there is none."""
        place = (cell.table, cell.network, cell.scale, f"{benchmark.id}_psnr")
        row = published.of(self.networks[cell.network])
        return next((other.printed for other in row if other.place == place), "")

    def _authors_metric(self, cell: Cell, benchmark: Benchmark, metric: str) -> Verdict | None:
        """Explain a value by the authors' own metric on their own file, where that is not the usual metric."""
        record = evaluated.record(self.results, cell.network, cell.scale, PUBLISHED)
        own = evaluated.of_benchmark(record, "authors_metric", benchmark)
        value = own.get(metric)
        if not isinstance(value, int | float):
            return None
        if not verdicts.agrees(cell.published, metric, value, verdicts.AUTHORS_TOLERANCE[metric]):
            return None
        rest = float(value) - float(cell.published)
        text = f"the authors' own metric gives {trained.shown(value, metric)}, {rest:+.4f} from the published value"
        return Verdict(verdicts.EXPLAINED, f"{text}: {own['text']}" if own.get("text") else text)


def _infinite(scores: Scores, metric: str) -> str:
    return scores.infinite() if metric == "psnr" else ""


def _partial(benchmark: Benchmark, scores: Scores) -> list[str]:
    if benchmark.images is not None and len(scores) != benchmark.images:
        return [f"{len(scores)} of the {benchmark.images} images of {benchmark.name}"]
    return []


def _grey(grey: Record, metric: str) -> str:
    """Say which images have a single channel, and what that changes; "" where none has."""
    images, converted = grey.get("images"), grey.get(f"{metric}_converted")
    if not isinstance(images, list) or not images:
        return ""
    many = len(images) > 1
    text = f" with {', '.join(map(str, images))} measured as {'they are' if many else 'it is'} (0 to 255): "
    text += "files of one channel, which those scripts did not convert to Y"
    if isinstance(converted, int | float):
        text += f"; converted like the others {'they give' if many else 'it gives'} {trained.shown(converted, metric)}"
    return text
