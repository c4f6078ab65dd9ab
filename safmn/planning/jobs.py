"""Files, options and fingerprints of each job of a study, for the rules in `workflow/`.

Paths are relative to where Snakemake runs. Names, scales and seeds may be wildcards.
"""

import shlex
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safmn import fingerprint, layout, networks
from safmn.cost import identity as cost
from safmn.data import sources, supply
from safmn.errors import UserError
from safmn.files import digest, read_json, write_json
from safmn.inspection import subjects
from safmn.networks import variants
from safmn.networks.identity import apart, of_network
from safmn.report.measured import benchmarks
from safmn.study import Run, Study
from safmn.training import identity as training
from safmn.training import own

PACKING = ("safmn.data.pairs:load",)
_READING = "safmn.networks.weights:load"
_FAST = "safmn.networks.acceleration:accelerate"
_METRICS = (
    "safmn.quality.evaluation:evaluate",
    "safmn.quality.evaluation:convert_grey",
    "safmn.quality.authors:*",
    "safmn.commands.evaluate:Result",
)
EVALUATING = (*_METRICS, _READING, _FAST)
LOOKING = ("safmn.inspection.record:inspect", "safmn.inspection.scenes:richest", _READING, _FAST)


class Jobs:
    """The jobs of a study.

    Attributes:
        study: the study.
        to_fetch: the downloads: source -> dataset -> scales.
        tested: the test sets that its jobs need, without those that are given on application only and not available.
        scenes: the images of Figures 2, 5 and 6.
        counts: each network of a table -> fingerprint of its counts. This reads the code of all networks, so that
            mistakes are reported before anything runs.
        needs_trial: whether a loss or an optimiser of a user's own is to be tried before anything is trained.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self.to_fetch = study.to_fetch()
        folders = study.data.folders
        self.tested = [text for text in study.data.test if sources.can_be_expected(text, study.roots, folders)]
        self.scenes = subjects.scenes(study, self.tested)
        self._code = cache(of_network)
        self.counts = {name: cost.of_counts(name) for name in study.counted}
        self.needs_trial = self._uses_own_training()

    def at(self, place: str) -> str:
        """Return the path of a place of `safmn.layout`."""
        return f"{self.study.results}/{place}"

    @property
    def labels(self) -> dict[str, list[Any]]:
        """What the tables call each network, and where its row stands: no result depends on it, the tables do."""
        beside = {name: variant.beside for name, variant in variants.discover().items()}
        infos = map(networks.info, self.study.counted)
        return {info.name: [info.title, sorted(info.rows.items()), beside.get(info.name, "")] for info in infos}

    # --- a run of Snakemake as a whole ---

    def try_own_networks(self) -> None:
        """Try the user's own networks on a small batch, except those that were counted as they are; imports torch.

        Where Snakemake's Python has no torch (jobs run in a conda environment), only the jobs try them.

        Raises:
            UserError: one of them cannot be used; one line.
        """
        for name in self.counts if find_spec("torch") else ():
            network = networks.info(name)
            if not network.is_own or self._is_counted(name):
                continue
            from safmn.networks import trial

            scales = self.study.scales_of(name) if name in self.study.variants else self.study.scales
            for scale in scales:
                if scale in network.scales:
                    trial.check(name, scale)

    def _is_counted(self, name: str) -> bool:
        try:
            counted = read_json(Path(self.at(layout.complexity(name))))
        except UserError:
            return False
        return isinstance(counted, dict) and counted.get("key") == self.counts[name]

    def begin(self) -> None:
        """Write `study.json`, which all jobs read, and remove the marker of finished tables."""
        Path(self.at(layout.FINISHED)).unlink(missing_ok=True)
        write_json(self.at(layout.STUDY), self.study.content)

    # --- data ---

    def markers(self, source: str | None = None) -> list[str]:
        """Return the marker files of the downloaded datasets of a source, or of all sources."""
        chosen = self.to_fetch.values() if source is None else [self.to_fetch[source]]
        pairs = [pair for datasets in chosen for pair in datasets.items()]
        return [self._marker(name, scale) for name, scales in pairs for scale in scales]

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

    def images(self, dataset: str, scale: int) -> list[str]:
        """Return the image files of a dataset, so that Snakemake notices a change; none while it is absent.

        For a dataset that is downloaded, return its marker file: its images are known, and verified, only afterwards.
        """
        if dataset in self.fetched:
            return [self._marker(dataset, scale)]
        try:
            pairs = sources.select(dataset, scale, self.study.roots, self.study.data.folders).pairs
        except UserError:
            return []  # the job reports what is missing and how to get it
        return [str(path) for pair in pairs for path in (pair.hr, pair.lr) if path is not None]

    def where(self, dataset: str) -> str:
        """Return the options that tell `safmn pack` where a dataset lies."""
        folder = self.study.data.folders.get(dataset)
        roots = self.study.roots[-1:] if dataset in self.fetched else self.study.roots
        options = [f"--data-root {shlex.quote(str(root))}" for root in roots]
        options += [f"--folder {shlex.quote(folder)}"] if folder else []
        options += ["--border clamped"] if self.study.data.border == "clamped" else []
        return " ".join(options)

    def packed(self, selections: list[str], scale: int | str) -> list[str]:
        """Return the packed datasets that contain selections of images."""
        names = dict.fromkeys(sources.parse_selection(text)[0] for text in selections)
        return [self.at(f"{layout.packed(name, scale)}/{layout.INDEX}") for name in names]

    @cached_property
    def packing(self) -> str:
        """Fingerprint of the code that reads pixels from image files."""
        return fingerprint.code(*PACKING)

    # --- quality ---

    def test_sets(self, scale: int | str) -> list[str]:
        """Return the packed test sets, with the slice of each that the study tests on."""
        return [self._part(text, scale) for text in self.tested]

    def _part(self, text: str, scale: int | str) -> str:
        name, _ = sources.parse_selection(text)
        return self.at(layout.packed(name, scale)) + text.removeprefix(name)

    def scores(self, network: str, scale: int | str, which: str) -> list[str]:
        """Return the CSV file of each test set; two slices of one dataset have two files."""
        return [self.at(layout.scores(network, scale, which, stem)) for stem in self._stems]

    @cached_property
    def _stems(self) -> list[str]:
        stems = {benchmark.selection: benchmark.stem for benchmark in benchmarks(self.study)}
        return [stems[text] for text in self.tested]

    def published_scores(self) -> list[str]:
        """Return the CSV files of networks whose published weights are available, and of bicubic, which needs none."""
        files = []
        for name in [*self.study.networks, *self.study.variants]:
            for scale in self.study.scales:
                if name == "bicubic":
                    files += self.scores(name, scale, "published") + self.scores(name, scale, "legacy")
                elif scale in networks.info(name).scales and self.published_file(name, scale):
                    files += self.scores(name, scale, "published")
        return files

    def published_file(self, network: str, scale: int) -> str | None:
        """Return the authors' file of a network, available or to be downloaded, or None."""
        file = self.study.published_weights(network, scale)
        return None if file is None else str(file)

    def evaluation(self, network: str) -> str:
        """Return the fingerprint of the code that evaluates a network, the network's own included."""
        return digest([fingerprint.code(*EVALUATING, apart=apart()), self._code(network)])

    # --- training ---

    def targets(self) -> dict[str, tuple[list[str], str]]:
        """Return the targets `train_NAME`: name -> (networks that it trains, what it is).

        One for each variant, each sweep, and each published network that is trained here.
        """
        found = variants.discover()
        targets = {
            name: ([name], found[name].description if name in found else f"{networks.info(name).title}, trained here.")
            for name in self.study.trained
        }
        for name, points in self.study.sweeps.items() if self.study.training else ():
            targets[name] = points, f"The {len(points)} points of the sweep {name}."
        return targets

    def training(self, network: str, scale: int, seed: int) -> str:
        """Return the fingerprint of a run; a changed comment does not change it."""
        return training.key_of(self.study.specification(Run(network, scale, seed)), [])

    def trained_on(self, network: str, scale: int | str) -> list[str]:
        """Return the packed datasets with the images that a network is trained on and validated on."""
        return self.packed([*self.study.train_of(network), *self.study.data.validation], scale)

    def _uses_own_training(self) -> bool:
        """Return whether a run has a loss or an optimiser of a user's own; raise UserError if its code is not found."""
        runs = {run.variant: self.study.specification(run)["training"] for run in self.study.runs()}
        found = {name: settings for name, settings in runs.items() if own.classes(settings)}
        for name, settings in found.items():
            training.code_fingerprint(name, settings)
        return bool(found)

    # --- cost ---

    def memory(self) -> str:
        """Return the fingerprint of the predicted memory."""
        return digest([cost.of_memory(name) for name in self.study.timed])

    def own_code(self) -> dict[str, str]:
        """Return `fingerprint` of the timed networks that are a user's own; nothing where there is none.

        Their arguments count, too: `network.args` of a variant or the fixed switches of a sweep are not in its name.
        """
        timed = {name: networks.info(name) for name in self.study.timed}
        own = [name for name, network in timed.items() if network.file and name != "safmn"]
        return {"fingerprint": digest([[self._code(name), timed[name].arguments] for name in own])} if own else {}

    # --- inspection ---

    def inspected(self) -> list[str]:
        """Return the files, without suffix, of the networks with weights that are inspected; none without a scene."""
        return [
            self.at(layout.inspection(subject.network, subject.scale, subject.weights))
            for subject in (subjects.subjects(self.study) if self.scenes else ())
            if subject.run or subject.network == "bicubic" or self.published_file(subject.network, subject.scale)
        ]

    def inspected_weights(self, network: str, scale: int, weights: str) -> list[str]:
        """Return the file of the weights that are inspected; none for bicubic."""
        if weights == subjects.PUBLISHED:
            file = self.published_file(network, scale)
            return [file] if file else []
        seed, which = weights.removeprefix("seed").split("_")
        return [self.at(layout.weights(network, scale, seed, which))]

    def scene_options(self, scale: int | str) -> str:
        """Return the scenes as options of `safmn inspect`."""
        options = []
        for scene in self.scenes:
            image = [scene["image"]] if scene["image"] else []
            words = map(str, (self._part(scene["test"], scale), *image, *(scene["at"] or ())))
            options.append(f"--scene {shlex.join(words)}")
        return " ".join(options)

    def inspection(self, network: str) -> str:
        """Return the fingerprint of the code that inspects a network, the network's own included."""
        return digest([fingerprint.code(*LOOKING, apart=apart()), self._code(network)])


def weights_option(files: list[Any]) -> str:
    """Return `--weights FILE` for each file."""
    return " ".join(f"--weights {shlex.quote(str(file))}" for file in files)
