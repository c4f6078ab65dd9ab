"""Cells of PSNR and SSIM: what a study trained itself, and what published weights or bicubic give."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePath
from typing import Any

from safmn.data import sources
from safmn.networks import published_weights
from safmn.networks.registry import Network
from safmn.paper import published, verdicts
from safmn.paper.cell import MEASURED, PUBLISHED_WEIGHTS, TRAINED, Cell
from safmn.paper.verdicts import Verdict
from safmn.report import evaluated, trained
from safmn.report.measured import NAMES, Absent, Benchmark, Results, Scores, benchmarks
from safmn.study import Study, differences_from_paper

BICUBIC = "bicubic"
PUBLISHED, LEGACY = "published", "legacy"  # folders of evaluations, see `safmn.layout.quality`


class Qualities:
    """PSNR and SSIM of a study's networks, as far as they are there."""

    def __init__(self, study: Study, results: Results, networks: Mapping[str, Network]) -> None:
        self.study, self.results, self.networks = study, results, networks
        self.benchmarks = {each.id: each for each in benchmarks(study)}

    def fill(self, cell: Cell) -> Cell:
        """The cell with what was measured, or the reason why nothing was."""
        identity, metric = cell.column.rsplit("_", 1)
        benchmark = self.benchmarks.get(identity)
        if benchmark is None:
            return cell.missing(f"the study does not test on {NAMES.get(identity, identity)}")
        trains = cell.network in self.study.variants and self.study.training is not None
        found = (self._trained if trains else self._evaluated)(cell, benchmark, metric)
        if not found.is_missing:
            return found
        if identity in self._out_of_reach:
            return cell.missing(self._out_of_reach[identity])
        waits = self._without_data(cell.scale, trains) if self._has_weights(cell, trains) else ""
        return cell.missing(waits) if waits else found

    # --- why there is nothing ---

    def _has_weights(self, cell: Cell, trains: bool) -> bool:
        """Whether the network could be evaluated if all data were there."""
        if cell.scale not in (self.study.scales_of(cell.network) if trains else self.study.scales):
            return False
        at_hand = published_weights.at_hand(cell.network, cell.scale, *self.study.weights_roots)
        return trains or cell.network == BICUBIC or at_hand is not None

    def _without_data(self, scale: int, trains: bool) -> str:
        """Which dataset a result waits for that could not be downloaded or packed, and why; "" for none."""
        data = self.study.data
        texts = [*data.train, *data.validation, *data.test] if trains else data.test
        names = dict.fromkeys(sources.parse_selection(text)[0] for text in texts)
        told = ((name, self.results.unpacked(name, scale)) for name in names)
        return next((f"{name} {reason}" for name, reason in told if reason), "")

    @cached_property
    def _out_of_reach(self) -> dict[str, str]:
        """Benchmarks that the study goes without, since they are given on application only: id -> how to get them."""
        roots, folders = self.study.roots, self.study.data.folders
        return {
            each.id: f"{each.name} is not at hand: {sources.DATASETS[each.name].obtain}"
            for each in self.benchmarks.values()
            if not sources.can_be_expected(each.selection, roots, folders)
        }

    def _no_weights(self, cell: Cell) -> str:
        """Why published weights were not evaluated, and where they could come from."""
        if cell.network == BICUBIC:
            return "not evaluated yet: `snakemake`"
        if published_weights.at_hand(cell.network, cell.scale, *self.study.weights_roots):
            return "the weights are at hand, but not evaluated yet: `snakemake`"
        where = published_weights.obtain(cell.network, cell.scale)
        return f"weights of {self.networks[cell.network].title} x{cell.scale} are not at hand: {where}"

    # --- what was trained here ---

    def _trained(self, cell: Cell, benchmark: Benchmark, metric: str) -> Cell:
        name, scale = cell.network, cell.scale
        if scale not in self.study.scales_of(name):
            return cell.missing(f"the study does not train it at x{scale}")
        found = trained.collect(self.study, self.results, name, scale, benchmark)
        if not found.best:
            return cell.missing("; ".join(dict.fromkeys(found.absent.values())))
        spread, ends = found.spread(metric), found.spread(metric).interval.ends or (None, None)
        folders = [trained.folder(seed, "best") for seed in found.best]
        told = evaluated.told(self.results, name, scale, folders, benchmark)
        remarks = dict.fromkeys(filter(None, [_infinite(scores, metric) for scores in found.best.values()]))
        notes = [trained.note(found, metric), told.said, *remarks]
        authors = self.results.scores(name, scale, PUBLISHED, benchmark)
        if not isinstance(authors, Absent):
            notes.append(f"published weights give {trained.shown(authors.mean(metric), metric)}")
        verdict = None
        if cell.published:
            reasons = [*self._departures, *_partial(benchmark, next(iter(found.best.values())))]
            for run in self.study.runs(name):
                if run.scale == scale and run.seed in found.best:
                    reasons += trained.departures(self.study, run, found.records.get(run.seed, {}))
            why = {"comparable": not reasons, "reason": "; ".join(dict.fromkeys(reasons))}
            verdict = verdicts.training(cell.published, metric, spread.mean, interval=spread.interval.ends, **why)
        return cell.filled(
            spread.mean,
            verdict,
            "; ".join(filter(None, notes)),
            low=ends[0],
            high=ends[1],
            std=spread.deviation,
            seeds=len(found.best),
            device=found.devices,
            collapsed=bool(found.collapses),
            origin=TRAINED,
            remarks=(*told.loud, *remarks),
        )

    @cached_property
    def _departures(self) -> list[str]:
        return differences_from_paper(self.study)

    # --- what others trained ---

    def _evaluated(self, cell: Cell, benchmark: Benchmark, metric: str) -> Cell:
        if cell.scale not in self.study.scales:
            return cell.missing(f"the study has no x{cell.scale}")
        scores = self.results.scores(cell.network, cell.scale, PUBLISHED, benchmark)
        if isinstance(scores, Absent):
            return cell.missing(scores.reason or self._no_weights(cell))
        value = scores.mean(metric)
        told = evaluated.told(self.results, cell.network, cell.scale, [PUBLISHED], benchmark)
        of_weights = "no weights" if cell.network == BICUBIC else "published weights"
        infinite = _infinite(scores, metric)
        note = "; ".join(filter(None, [f"{of_weights}, {len(scores)} images", told.said, infinite]))
        remarks = (*told.loud, infinite) if infinite else told.loud
        verdict = self._judged(cell, benchmark, metric, scores) if cell.published else None
        origin = MEASURED if cell.network == BICUBIC else PUBLISHED_WEIGHTS
        return cell.filled(value, verdict, note, device=told.device, origin=origin, remarks=remarks)

    def _judged(self, cell: Cell, benchmark: Benchmark, metric: str, scores: Scores) -> Verdict:
        """The verdict of an evaluation: explained where the way in which the print was measured gives it."""
        departs = self._departing_weights(cell)
        for reason in [*_partial(benchmark, scores), *([departs] if departs else [])]:
            return verdicts.not_comparable(reason)
        verdict = verdicts.evaluation(cell.published, metric, scores.mean(metric))
        if verdict.verdict != verdicts.CONTRADICTED:
            return verdict
        explain = self._older_protocol if cell.network == BICUBIC else self._authors_metric
        return explain(cell, benchmark, metric) or verdict

    def _departing_weights(self, cell: Cell) -> str:
        """Why the authors' file is not the one that the print was measured with; "" where nobody says so."""
        known = published_weights.find(cell.network, cell.scale)
        departs = known.departs if known else ""
        weights = evaluated.record(self.results, cell.network, cell.scale, PUBLISHED).get("weights")
        if departs and isinstance(weights, Mapping) and "file" in weights:  # it may be a file of the user's own
            is_authors = PurePath(str(weights["file"])).name == known.remote.name
            departs = departs if is_authors or weights.get("sha256") == known.remote.sha256 else ""
        return departs

    def _older_protocol(self, cell: Cell, benchmark: Benchmark, metric: str) -> Verdict | None:
        """Bicubic's row was made on Y itself, by scripts that converted images of three channels only."""
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
            rest = f"; a rest of {value - float(cell.published):+.4f} stays, while PSNR agrees"
        record = evaluated.record(self.results, BICUBIC, cell.scale, LEGACY)
        grey = _grey(evaluated.of_benchmark(record, "grey", benchmark), metric)
        return Verdict(
            verdicts.EXPLAINED,
            f"the older protocol (Y itself reduced and enlarged, then rounded to uint8) gives "
            f"{trained.shown(value, metric)}{grey}{rest}",
        )

    def _printed_psnr(self, cell: Cell, benchmark: Benchmark) -> str:
        """The printed PSNR beside a printed SSIM, "" where there is none."""
        place = (cell.table, cell.network, cell.scale, f"{benchmark.id}_psnr")
        beside = published.of(self.networks[cell.network])
        return next((each.printed for each in beside if each.place == place), "")

    def _authors_metric(self, cell: Cell, benchmark: Benchmark, metric: str) -> Verdict | None:
        """What the authors' own metric gives for their own file, where it is not the usual one."""
        record = evaluated.record(self.results, cell.network, cell.scale, PUBLISHED)
        found = evaluated.of_benchmark(record, "authors_metric", benchmark)
        value = found.get(metric)
        if not isinstance(value, int | float):
            return None
        if not verdicts.agrees(cell.published, metric, value, verdicts.AUTHORS_TOLERANCE[metric]):
            return None
        rest = float(value) - float(cell.published)
        text = f"the authors' own metric gives {trained.shown(value, metric)}, {rest:+.4f} from the print"
        return Verdict(verdicts.EXPLAINED, f"{text}: {found['text']}" if found.get("text") else text)


def _infinite(scores: Scores, metric: str) -> str:
    return scores.infinite() if metric == "psnr" else ""


def _partial(benchmark: Benchmark, scores: Scores) -> list[str]:
    if benchmark.images is not None and len(scores) != benchmark.images:
        return [f"{len(scores)} of the {benchmark.images} images of {benchmark.name}"]
    return []


def _grey(found: Mapping[str, Any], metric: str) -> str:
    """Which images have a single channel, and what that changes; "" where none has."""
    images, converted = found.get("images"), found.get(f"{metric}_converted")
    if not isinstance(images, list) or not images:
        return ""
    many = len(images) > 1
    text = f" with {', '.join(map(str, images))} measured as {'they are' if many else 'it is'} (0 to 255): "
    text += "files of one channel, which those scripts did not convert to Y"
    if isinstance(converted, int | float):
        text += f"; converted like the others {'they give' if many else 'it gives'} {trained.shown(converted, metric)}"
    return text
