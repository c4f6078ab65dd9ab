"""What the rules in `workflow/` ask of a study: files, options and fingerprints of each job.

Paths are relative to where Snakemake runs. Wildcards may stand in the place of names, scales and seeds.
"""

import shlex
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from safmn import fingerprint, layout, networks
from safmn.cost import identity as cost
from safmn.data import sources, supply
from safmn.errors import UserError
from safmn.files import digest, write_json
from safmn.inspection import subjects
from safmn.networks.identity import modules, of_network
from safmn.report.measured import benchmarks
from safmn.study import Run, Study
from safmn.training import identity as training

_PACKING = ("safmn.data.pairs:read_pair",)
_READING = "safmn.networks.weights:load"
_FAST = "safmn.networks.acceleration:accelerate"
_METRICS = ("safmn.quality.evaluation:evaluate", "safmn.quality.authors:_smsr", "safmn.commands.evaluate:Result")
_EVALUATING = (*_METRICS, _READING, _FAST)
_LOOKING = ("safmn.inspection.record:inspect", "safmn.inspection.scenes:richest", _READING, _FAST)


class Jobs:
    """The jobs of a study.

    Attributes:
        study: the study.
        to_fetch: what is to be downloaded: source -> dataset -> scales.
        tested: the test sets that its jobs need. A test set that is given on application only, and is not available, is
            left out.
        scenes: what Figures 2, 5 and 6 look at.
        counts: network of Tables 1 to 4 -> what its counts depend on; all code is read for it, mistakes are told now.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.to_fetch = study.to_fetch()
        folders = study.data.folders
        self.tested = [text for text in study.data.test if sources.can_be_expected(text, study.roots, folders)]
        self.scenes = subjects.scenes(study, self.tested)
        self._code = cache(of_network)
        self.counts = {name: cost.of_counts(name) for name in (*study.variants, *study.networks)}

    def at(self, place: str) -> str:
        """A place of `safmn.layout`, from where Snakemake runs."""
        return f"{self.study.results}/{place}"

    # --- a run of Snakemake as a whole ---

    def begin(self) -> None:
        """Writes the study down, as all jobs read it, and takes away what says that its tables are made."""
        Path(self.at(layout.FINISHED)).unlink(missing_ok=True)
        write_json(self.at(layout.STUDY), self.study.content)

    # --- data ---

    def markers(self, source: str | None = None) -> list[str]:
        """The files that say that the datasets of a source (or of all) have been downloaded."""
        chosen = self.to_fetch.values() if source is None else [self.to_fetch[source]]
        return [self._marker(name, scale) for each in chosen for name, scales in each.items() for scale in scales]

    def _marker(self, dataset: str, scale: int) -> str:
        return str(supply.marker(self.study.roots[-1], self.study.name, dataset, scale))

    @cached_property
    def fetched(self) -> list[str]:
        """The datasets that are downloaded."""
        return [name for source in self.to_fetch.values() for name in source]

    @cached_property
    def fetched_weights(self) -> dict[str, tuple[str, int]]:
        """File of published weights that is downloaded -> (network, a scale that it serves)."""
        return self.study.weights_to_fetch()

    @cached_property
    def weights_folder(self) -> Path | None:
        """Where published weights are downloaded to."""
        return self.study.weights_roots[-1] if self.study.weights.download else None

    def images(self, dataset: str, scale: int) -> list[str]:
        """The image files of a dataset, so that a changed one is noticed; none while the dataset is not there.

        For one that is downloaded, the record of that: its images are known only afterwards, and were verified then.
        """
        if dataset in self.fetched:
            return [self._marker(dataset, scale)]
        try:
            pairs = sources.locate(dataset, self.study.roots, self.study.data.folders).pairs(scale)
        except UserError:
            return []  # the job tells what is missing and how to get it
        return [str(path) for pair in pairs for path in (pair.hr, pair.lr) if path is not None]

    def where(self, dataset: str) -> str:
        """The options that tell `safmn pack` where a dataset lies."""
        folder = self.study.data.folders.get(dataset)
        roots = self.study.roots[-1:] if dataset in self.fetched else self.study.roots
        options = [f"--data-root {shlex.quote(str(root))}" for root in roots]
        options += [f"--folder {shlex.quote(folder)}"] if folder else []
        options += ["--border clamped"] if self.study.data.border == "clamped" else []
        return " ".join(options)

    def packed(self, selections: list[str], scale: int | str) -> list[str]:
        """The packed datasets that selections of images are taken from."""
        names = dict.fromkeys(sources.parse_selection(text)[0] for text in selections)
        return [self.at(f"{layout.packed(name, scale)}/{layout.INDEX}") for name in names]

    @cached_property
    def packing(self) -> str:
        """The code that makes pixels out of image files."""
        return fingerprint.code(*_PACKING)

    # --- quality ---

    def test_sets(self, scale: int | str) -> list[str]:
        """The packed test sets, with the part of each that the study tests on."""
        return [self._part(text, scale) for text in self.tested]

    def _part(self, text: str, scale: int | str) -> str:
        name, _ = sources.parse_selection(text)
        return self.at(layout.packed(name, scale)) + text.removeprefix(name)

    def scores(self, network: str, scale: int | str, which: str) -> list[str]:
        """One CSV a test set, named as the report looks for it: two parts of one dataset have files of their own."""
        return [self.at(layout.scores(network, scale, which, stem)) for stem in self._stems]

    @cached_property
    def _stems(self) -> list[str]:
        known = {each.selection: each.stem for each in benchmarks(self.study)}
        return [known[text] for text in self.tested]

    def published_scores(self) -> list[str]:
        """The networks of Table 1 whose published weights are at hand, and bicubic, which needs none."""
        found = []
        for name in [*self.study.networks, *self.study.variants]:
            for scale in self.study.scales:
                if name == "bicubic":
                    found += self.scores(name, scale, "published") + self.scores(name, scale, "legacy")
                elif scale in networks.info(name).scales and self.published_file(name, scale):
                    found += self.scores(name, scale, "published")
        return found

    def published_file(self, network: str, scale: int) -> str | None:
        """The authors' file of a network, at hand or to be downloaded, or None."""
        file = self.study.published_weights(network, scale)
        return None if file is None else str(file)

    def evaluation(self, network: str) -> str:
        """The code that makes a PSNR out of weights and images, that of the network among it."""
        return digest([self._evaluating, self._code(network)])

    @cached_property
    def _evaluating(self) -> str:
        return fingerprint.code(*_EVALUATING, apart=modules())

    # --- training ---

    def training(self, network: str, scale: int, seed: int) -> str:
        """What a run's result depends on; a changed comment is not among it."""
        return training.key_of(self.study.specification(Run(network, scale, seed)), [])

    # --- cost ---

    @cached_property
    def timed(self) -> list[str]:
        """The networks of Table 2."""
        return ["safmn", *(name for name in self.study.networks if 2 in networks.info(name).rows)]

    def memory(self) -> str:
        """What the predicted memory depends on."""
        return digest([cost.of_memory(name) for name in self.timed])

    # --- inspection ---

    def inspected(self) -> list[str]:
        """The stems of what is looked into: networks with weights; nothing without an image to look at."""
        return [
            self.at(layout.inspection(each.network, each.scale, each.weights))
            for each in subjects.subjects(self.study)
            if self.scenes
            and (each.run is not None or each.network == "bicubic" or self.published_file(each.network, each.scale))
        ]

    def inspected_weights(self, network: str, scale: int, weights: str) -> list[str]:
        """The file that a network is looked into with; none for bicubic."""
        if weights == subjects.PUBLISHED:
            file = self.published_file(network, scale)
            return [file] if file else []
        seed, which = weights.removeprefix("seed").split("_")
        return [self.at(layout.weights(network, scale, seed, which))]

    def scene_options(self, scale: int | str) -> str:
        """The scenes as `safmn inspect` takes them."""
        found = []
        for scene in self.scenes:
            words = [
                self._part(scene["test"], scale),
                *([scene["image"]] if scene["image"] else []),
                *(scene["at"] or []),
            ]
            found.append("--scene " + " ".join(shlex.quote(str(word)) for word in words))
        return " ".join(found)

    def inspection(self, network: str) -> str:
        """The code that chooses where to look, and looks, and what it looks into; not that which writes files."""
        return digest([self._looking, self._code(network)])

    @cached_property
    def _looking(self) -> str:
        return fingerprint.code(*_LOOKING, apart=modules())


def weights_option(files: list[Any]) -> str:
    """`--weights FILE` where there is one."""
    return " ".join(f"--weights {shlex.quote(str(file))}" for file in files)
