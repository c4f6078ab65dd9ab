"""A study, validated: its data, scales, seeds and variants, and the specification of each of its runs."""

import contextlib
import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import PrivateAttr

from safmn import layout, networks, paths, quantities
from safmn.configuration import WrongValue, as_plain, check, read_yaml
from safmn.data import sources, supply
from safmn.errors import UserError, suggestion
from safmn.networks import own, published_weights, variants
from safmn.networks.registry import RETRAINED, Network, published_networks
from safmn.paper import published
from safmn.schema import PAPER, Data, Multistep, StudyFile, Training, Weights

_log = logging.getLogger(__name__)

OVERRIDES = {
    "data_root": ("data", "root"),
    "data_download": ("data", "download"),
    "weights_root": ("weights", "root"),
    "weights_download": ("weights", "download"),
    **{key: ("training", key) for key in ("iterations", "batch", "patch", "ema", "precision", "threads")},
    **{key: ("efficiency", key) for key in ("images", "rounds", "processes", "modes", "cpu")},
}
"""A single word that `--config` takes -> the section and key that it stands for."""
MAX_TIMED_POINTS = 64
"""Up to as many points of sweeps are timed."""


class TooFewIterations(WrongValue):
    """A warm-up or a milestone after the last iteration, of a run whose iterations the study gives, not its variant."""


@dataclass(frozen=True)
class Run:
    """One training run: a variant, or a published network that is trained here, at a scale with a seed."""

    variant: str
    scale: int
    seed: int

    @property
    def folder(self) -> str:
        """Its folder, below `results/<study>/training/`."""
        return layout.run_name(self.variant, self.scale, self.seed)

    @property
    def record(self) -> str:
        """Its record, below `results/<study>/`."""
        return layout.record(self.variant, self.scale, self.seed)


class Study(StudyFile):
    """One complete study, with every default filled in; its keys are attributes (`study.training.iterations`).

    `study.variants` and `study.networks` are lists of names also where the file says "all".
    """

    _where: str = PrivateAttr("")
    _content: dict[str, Any] = PrivateAttr(default_factory=dict)
    _insisted: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def from_content(
        cls,
        content: Any,
        where: str | Path,
        insisted: Mapping[str, Any] | None = None,
        words: Iterable[str] = (),
    ) -> Self:
        """Validate plain data as a study.

        Args:
            content: plain data; it is copied.
            where: the file that it comes from, for messages.
            insisted: keys of `training` that hold for variants too that change them.
            words: what could be meant by an unknown key, beside the keys of a study.

        Raises:
            UserError: one line that names file and key.
        """
        study = check(cls, content, where, words=words)
        study._where = str(where)
        study._content = _in_order_of(content, as_plain(study))
        study._insisted = dict(insisted or {})
        if study.own_networks and not Path(study.own_networks).is_dir():
            raise study._wrong("own_networks", f"{study.own_networks!r} is not a folder: make it, or correct the name")
        if study.own_networks:
            own.find_in(Path(study.own_networks).absolute())
        study._check_names()
        study._check_data()
        study._check_training()
        study._check_figures()
        study._check_own_tables()
        return study

    @classmethod
    def load(cls, file: str | Path, **overrides: Any) -> Self:
        """Read a study from YAML or JSON, or the packaged study of that name.

        Args:
            file: the file or the name.
            overrides: values by the words of `OVERRIDES`; None and "" leave the file's value. Those of `training` hold
                for variants too that have values of their own.

        Raises:
            UserError: one line that names file and key.
        """
        file = paths.study(file)
        insisted = {
            key: overrides[word]
            for word, (section, key) in OVERRIDES.items()
            if section == "training" and overrides.get(word) not in (None, "")
        }
        return cls.from_content(_overridden(read_yaml(file), overrides), file, insisted)

    @classmethod
    def from_snakemake(
        cls, config: Mapping[str, Any], files: Iterable[Any], command_line: Collection[str] = ()
    ) -> Self:
        """Validate the study in Snakemake's `config`, after the overrides that `--config` may give.

        Beside the words of `OVERRIDES`, `variants`, `networks`, `scales` and `seeds` may be words with commas, and
        `extra_seeds=none` removes them. Other keys are given as in the file.

        Args:
            config: the study with the words of `--config`.
            files: the files that it comes from, for messages.
            command_line: the words of `--config`, where a mistake in one of them is.

        Raises:
            UserError: one line that names the file, or `--config`, and the key.
        """
        where = ", ".join(str(file) for file in files) or "config/mini.yaml"
        try:
            content = json.loads(json.dumps(config))  # a plain copy: Snakemake's own must not change
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{where}: holds something that is not plain data: {error}") from error
        for file in filter(Path.is_file, map(Path, files)):
            content = _with_numbers(content, read_yaml(file))  # which refuses what Snakemake lets pass
        if content.get("cpu") in ("true", "false"):  # `--config cpu=true` arrives as text
            content["cpu"] = content["cpu"] == "true"
        content = _overridden(content, {word: content.pop(word, None) for word in OVERRIDES})
        for key in ("variants", "networks", "retrain"):
            if isinstance(content.get(key), str) and content[key] != "all":
                content[key] = [name for name in content[key].split(",") if name]
        if content.get("extra_seeds") == "none":
            content["extra_seeds"] = {}
        for key in ("scales", "seeds"):  # `--config 'scales=[4]'` arrives as text, `scales=4` as a number
            if isinstance(content.get(key), str):
                words = [word.strip() for word in content[key].strip("[]").split(",")]
                content[key] = [int(word) if re.fullmatch("[0-9]{1,18}", word) else word for word in words]
            elif isinstance(content.get(key), int):
                content[key] = [content[key]]
        try:
            return cls.from_content(content, where, words=OVERRIDES)
        except WrongValue as error:
            if isinstance(error, TooFewIterations) and "iterations" in command_line:
                raise WrongValue("--config", ["iterations"], f"is too small: {error}") from error
            word = next((word for word, path in OVERRIDES.items() if path == error.path[:2]), "")
            if word in command_line:
                raise WrongValue("--config", (word, *error.path[2:]), error.what) from error
            if error.path and error.path[0] in command_line:
                raise WrongValue("--config", error.path, error.what) from error
            raise

    # --- what it holds ---

    @property
    def where(self) -> str:
        """The file that the study was read from, for messages."""
        return self._where

    @property
    def content(self) -> dict[str, Any]:
        """A copy of the study as plain data, as `results/<study>/study.json` keeps it."""
        return deepcopy(self._content)

    @property
    def shareable(self) -> dict[str, Any]:
        """The content without the folders of this machine, to be passed on."""
        content = self.content
        for key in ("root", "folders", "download"):
            del content["data"][key]
        del content["weights"]
        if content.get("own_networks"):
            content["own_networks"] = "networks"  # there in a project, and in an archive
            content["networks"] = self.networks
        return content

    @property
    def roots(self) -> list[Path]:
        """The folders in which datasets are searched, in turn: the root, then the folder of downloads."""
        return _folders(self.data)

    @property
    def weights_roots(self) -> list[Path]:
        """The folders in which published weights are searched, in turn."""
        return _folders(self.weights)

    @property
    def results(self) -> Path:
        """`results/<study>`, relative to where Snakemake or `safmn` runs."""
        return Path("results") / self.name

    def folder(self, chosen: str | Path | None = None) -> Path:
        """Return the folder of results that a command was given, or the study's own; UserError where it is a file."""
        folder = Path(chosen) if chosen else self.results
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--results {folder} is not a folder: name the study's")
        return folder

    @cached_property
    def variants(self) -> list[str]:
        """Names of the variants that are trained (all that are counted, if the study trains none)."""
        found = variants.discover()
        chosen = self.chosen_variants
        if chosen != "all":
            sweeps = variants.swept(found)
            chosen = tuple(point for name in chosen for point in sweeps.get(name, (name,)))
        return _chosen(found, chosen)

    @cached_property
    def networks(self) -> list[str]:
        """Names of the published networks, and of those in `own_networks`."""
        return _chosen([*published_networks(), *self._own_networks], self.chosen_networks)

    @cached_property
    def _own_networks(self) -> dict[str, own.OwnNetwork]:
        return own.networks(Path(self.own_networks).absolute()) if self.own_networks else {}

    @cached_property
    def trained(self) -> list[str]:
        """Names of all networks that have runs: the variants and the published networks of `retrain`."""
        return [] if self.training is None else [*self.variants, *self.retrain]

    @cached_property
    def retrained(self) -> dict[str, Network]:
        """Row of Table 1, such as `imdn_retrained` -> the published network that is trained here, with that title."""
        infos = map(networks.info, self.retrain if self.training else ())
        return {f"{info.name}{RETRAINED}": replace(info, title=f"{info.title}, retrained", rows={}) for info in infos}

    @cached_property
    def counted(self) -> list[str]:
        """Names of all networks that stand in a table, each once."""
        return list(dict.fromkeys([*self.variants, *self.networks, *self.retrain]))

    @cached_property
    def timed(self) -> list[str]:
        """Names of the networks whose memory and time are measured at x4.

        Those of Table 2, the user's own, and those that "all" leaves out and the study names. Of the points of sweeps,
        none if they are more than MAX_TIMED_POINTS: timing would take longer than training.
        """
        table2 = [name for name in self.networks if 2 in networks.info(name).rows]
        points = [name for names in self.sweeps.values() for name in names]
        chosen = [name for name in self.variants if networks.info(name).is_own and name not in set(points)]
        chosen += [name for name in self.networks if name in self._own_networks]
        chosen += [name for name in (*self.variants, *self.networks) if not networks.info(name).in_all]
        chosen += points if len(points) <= MAX_TIMED_POINTS else []
        own = [name for name in chosen if 4 in networks.info(name).scales]
        return list(dict.fromkeys(["safmn", *table2, *own]))

    @cached_property
    def sweeps(self) -> dict[str, list[str]]:
        """Sweeps among the variants: name -> names of the variants that are its points."""
        found = variants.discover()
        return variants.swept({name: found[name] for name in self.variants})

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds of one variant, those of its sweep included."""
        found = variants.discover().get(variant)
        names = (variant, found.sweep) if found else (variant,)
        return list(dict.fromkeys((*self.seeds, *(seed for name in names for seed in self.extra_seeds.get(name, ())))))

    def scales_of(self, variant: str) -> list[int]:
        """Return the scales at which one network is trained.

        All for the baseline and for a published network; x4 alone for an ablation, as in the paper, unless its file
        names scales. None that the network does not have.
        """
        found = variants.discover().get(variant)
        chosen: list[int] = [scale for scale in self.scales if scale in networks.info(variant).scales]
        is_ablation = found is not None and variant != "safmn" and found.scales is None
        return [4] if is_ablation and 4 in chosen else chosen

    def runs(self, variant: str | None = None) -> list[Run]:
        """Return every training run, or those of one variant or retrained network."""
        if self.training is None:
            return []
        chosen = self.trained if variant is None else [name for name in self.trained if name == variant]
        return [
            Run(name, scale, seed) for name in chosen for scale in self.scales_of(name) for seed in self.seeds_of(name)
        ]

    def selections(self, use: Literal["train", "validation", "test"]) -> tuple[str, ...]:
        """Return the datasets, or slices of them, that serve one purpose."""
        selections: tuple[str, ...] = getattr(self.data, use)
        return selections

    @cached_property
    def test_sets(self) -> dict[str, str]:
        """What the columns of a test set begin with -> the test set as written; parts of one dataset differ."""
        names = [sources.parse_selection(text)[0] for text in self.data.test]
        times = Counter(name.lower() for name in names)
        return {
            identifier(name if times[name.lower()] == 1 else text): text
            for text, name in zip(self.data.test, names, strict=True)
        }

    def network_of(self, row: str) -> str:
        """Return the network that a row of a table stands for: `imdn` for `imdn_retrained`, else the row's own name."""
        return self.retrained[row].name if row in self.retrained else row

    def trains(self, row: str) -> bool:
        """Return whether the numbers of a row are of weights that the study trains, and not of published ones."""
        return self.training is not None and (row in self.retrained or row in self.variants)

    def train_of(self, network: str) -> tuple[str, ...]:
        """Return the datasets, or slices of them, that a network is trained on: its own or the study's."""
        variant = variants.discover().get(network)
        return tuple(variant.data.get("train", self.data.train)) if variant else self.data.train

    def packed_datasets(self) -> list[tuple[str, int]]:
        """Return (dataset, scale) of each that is packed: those to train on where there are runs, those to test on."""
        trained = dict.fromkeys(
            (run.scale, (*self.train_of(run.variant), *self.data.validation)) for run in self.runs()
        )
        tested = [(scale, self.data.test) for scale in sorted(self.scales)]
        needed = [*sorted(trained, key=lambda each: each[0]), *tested]
        pairs = ((sources.parse_selection(text)[0], scale) for scale, texts in needed for text in texts)
        return list(dict.fromkeys(pairs))

    def to_fetch(self) -> dict[str, dict[str, list[int]]]:
        """Return what is to be downloaded: source -> dataset -> scales; see `safmn.data.supply`."""
        root, download = (Path(folder) if folder else None for folder in (self.data.root, self.data.download))
        try:
            return supply.to_fetch(self.packed_datasets(), root, dict(self.data.folders), download)
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from error

    def weights_to_fetch(self) -> dict[str, tuple[str, int]]:
        """Return the published weights to be downloaded: file name -> (network, a scale that it serves)."""
        files: dict[str, tuple[str, int]] = {}
        for network in [*self.networks, *self.variants] if self.weights.download else []:
            for scale in self.scales:
                known = published_weights.find(network, scale)
                if known and published_weights.at_hand(network, scale, self.weights.root) is None:
                    files.setdefault(known.remote.name, (network, scale))
        return files

    def published_weights(self, network: str, scale: int) -> Path | None:
        """Return the file of a network's published weights: available, or to be downloaded; None if there is none."""
        known = published_weights.find(network, scale)
        if known and known.remote.name in self.weights_to_fetch():
            return self.weights_roots[-1] / known.remote.name
        return published_weights.at_hand(network, scale, *self.weights_roots)

    def training_of(self, network: str) -> Training:
        """Return how a network is trained: the study's training with the variant's changes.

        Raises:
            UserError: the study trains nothing, the network is unknown, or its changes do not fit the study.
        """
        if self.training is None:
            raise UserError(f"{self.where}: training: this study trains nothing; give it a training section")
        variant = _variant(network)
        if variant is None or not variant.training:
            return self.training
        merged = as_plain(self.training) | variant.training | self._insisted
        if "iterations" in self._insisted:
            merged["validate_every"] = min(merged["validate_every"], merged["iterations"])
        return check(Training, merged, f"{variant.file}: with what {self.where} says", "training")

    def where_trained(self, network: str, key: str) -> str:
        """Return the file that says the key of `training` by which a network is trained."""
        variant = variants.discover().get(network)
        return str(variant.file) if variant and key in variant.training else self.where

    def specification(self, run: Run) -> dict[str, Any]:
        """Return everything that determines the result of a run, and nothing else: plain data, fit to be hashed.

        Of `training`, the keys of `safmn.schema.PAPER` are left out where they are the paper's.
        """
        training = self.training_of(run.variant)
        variant = _variant(run.variant)
        return {
            "network": run.variant,
            "switches": variant.switches if variant else {},
            "scale": run.scale,
            "seed": run.seed,
            "train": list(self.train_of(run.variant)),
            "validation": list(self.data.validation),
            "training": dict(self._content["training"]) if training is self.training else as_plain(training),
        }

    # --- checks across several keys ---

    def _wrong(self, key: str, what: str) -> UserError:
        return WrongValue(self.where, key.split("."), what)

    def _check_names(self) -> None:
        found = variants.discover()
        for name, other in self._own_networks.items():
            if name in found:
                raise UserError(f"{other.network.file}: a variant has this name: rename the file")
        if self.chosen_variants == "all":
            variants.warn_of_refusals()
        ours = {*found, *variants.swept(found)}
        others = {*published_networks(), *self._own_networks}
        for key, names, known, kind in (
            ("variants", self.chosen_variants, ours, "variant"),
            ("networks", self.chosen_networks, others, "published network"),
            ("retrain", self.retrain, others, "published network"),
            ("extra_seeds", self.extra_seeds, ours | others, "variant"),
            ("figures.networks", self.figures.networks, ours | others, "network"),
        ):
            for name in () if names == "all" else names:
                if name not in known:
                    if refused := variants.refusal(name):
                        raise refused
                    hint = suggestion(name, known, "`safmn list` shows all")
                    raise self._wrong(key, f"{name!r} is not a known {kind}; {hint}")

    def _check_data(self) -> None:
        for use in ("train", "validation", "test"):
            _check_selections(self.where, use, self.selections(use))
        known = {identifier(name): name for name in sources.DATASETS}
        for name in (sources.parse_selection(text)[0] for text in self.data.test):
            meant = known.get(identifier(name), name)
            if name != meant:
                raise self._wrong(
                    "data.test",
                    f"{name} would stand in the tables as {meant}: write {meant}; if its folder has another name, give "
                    "the folder in data.folders",
                )
        if len(self.test_sets) < len(self.data.test):
            listed = ", ".join(self.data.test)
            raise self._wrong("data.test", f"two of {listed} would have the same columns: rename or leave out one")

    def _check_training(self) -> None:
        if self.training is None:
            return
        for use in ("train", "validation"):
            if not self.selections(use):
                raise self._wrong(f"data.{use}", "a study that trains needs at least one dataset here")
        self._check_course("", self.training)
        for name in self.variants:
            self._check_course(name, self.training_of(name))
            file = variants.discover()[name].file
            if not self.train_of(name):
                raise UserError(f"{file}: data.train: a variant that changes it needs at least one dataset here")
            _check_selections(file, "train", self.train_of(name))
            if self.chosen_variants != "all" and not self.scales_of(name):
                raise self._wrong("variants", f"{name} has none of the study's scales: see scales in {file}")
        for name in self.retrain:
            if name == "bicubic":
                raise self._wrong("retrain", "bicubic has no parameters to train: leave it out")
            if not self.scales_of(name):
                raise self._wrong("retrain", f"{name} has none of the study's scales: leave it out")

    def _check_course(self, network: str, training: Training) -> None:
        """Refuse what would never come: a warm-up or a milestone after the end of the run."""
        milestones = training.schedule.milestones if isinstance(training.schedule, Multistep) else ()
        for key, last in (("warm_up", training.warm_up), ("schedule.milestones", max(milestones, default=0))):
            if last and last >= training.iterations:
                where = self.where_trained(network, key.partition(".")[0])
                error = TooFewIterations if self.where_trained(network, "iterations") == self.where else WrongValue
                raise error(
                    where,
                    ("training", *key.split(".")),
                    f"{last} is not below the number of iterations, {training.iterations}: lower it, or train longer",
                )

    def _check_figures(self) -> None:
        self._check_scale("figures.scale", self.figures.scale)
        tested = [sources.parse_selection(text)[0] for text in self.data.test]
        for scene in self.figures.scenes:
            if scene.test not in tested:
                raise self._wrong(
                    "figures.scenes",
                    f"{scene.test!r} is not among data.test, so its images may have been trained on; add it there",
                )

    def _check_own_tables(self) -> None:
        rows = [*self.variants, *self.networks, *self.retrained]
        columns = quantities.columns(self.test_sets)
        qualities = [column for column in columns if quantities.split(column)[0]]
        printed = dict.fromkeys(cell.column for table in (1, 2, 3, 4) for cell in published.printed(table))
        of_paper = [f"published_{column}" for column in printed]
        for name, table in self.own_tables.items():
            key = f"own_tables.{name}"
            if re.fullmatch("table[0-9]+|claims|ablation", name):
                raise self._wrong(key, "a table of the report has this name: choose another")
            compared = [f"difference_{each}" for each in qualities] if table.significance else []
            for column in table.columns:
                if column.startswith("difference_") and not table.significance:
                    raise self._wrong(f"{key}.columns", f"{column!r} needs `significance`, the row to compare with")
                self._check_known(f"{key}.columns", column, [*columns, *of_paper, *compared], "a column")
            for row in table.rows:
                self._check_known(f"{key}.rows", row, rows, "a network of the study")
            if table.significance:
                self._check_known(f"{key}.significance", table.significance, rows, "a network of the study")
            if table.sort:
                self._check_known(f"{key}.sort", table.sort.removeprefix("-"), table.columns, "a column of the table")
            for column in table.decimals:
                words = [*table.columns, *(quantities.split(each)[1] for each in table.columns)]
                self._check_known(f"{key}.decimals", column, words, "a column of the table")
            self._check_scale(f"{key}.scale", table.scale)

    def _check_scale(self, key: str, scale: int | None) -> None:
        if scale is not None and scale not in self.scales:
            known = ", ".join(map(str, self.scales))
            raise self._wrong(key, f"{scale} is not one of the study's scales ({known}); choose one")

    def _check_known(self, key: str, name: str, known: Iterable[str], what: str) -> None:
        """Refuse a name with the nearest ones, or with some where none is near."""
        names = list(dict.fromkeys(known))
        if name not in names:
            hint = suggestion(name, names, f"there are {', '.join(names[:12])}")
            raise self._wrong(key, f"{name!r} is not {what}: {hint}")


def opened(study: Study | str | Path, results: str | Path | None = None) -> tuple[Study, Path]:
    """Return a study and the folder of its results.

    That is `results` where it is given, then the folder of a file `<name>/study.json`, then `results/<name>` here. If
    there is none here, it is the folder of any study.json, or `results/<name>` beside the folder of the study's file.

    Args:
        study: a study, its YAML file, or `results/<name>/study.json`.
        results: its results, where they lie elsewhere.

    Raises:
        UserError: the study cannot be read, or `results` is a file.
    """
    if isinstance(study, Study):
        return study, study.folder(results)
    file = paths.study(study)
    read = Study.load(file)
    if results is not None:
        return read, read.folder(results)
    if file.name == layout.STUDY and file.parent.name == read.name:
        return read, file.parent
    folder = read.folder()
    if not folder.is_dir():
        around = (file.parent / read.results, file.parent.parent / read.results)
        for place in [file.parent] if file.name == layout.STUDY else around:
            if (place / layout.STUDY).is_file():
                _log.info("%s is not here: looking at %s", folder, place)
                return read, place
        _log.warning("there is no %s in %s: nothing was run here yet, or --results DIR names where", folder, Path.cwd())
    return read, folder


def identifier(text: str) -> str:
    """Return a dataset's name or selection as in columns of `cells.csv`: lower case, letters, digits and _."""
    return "".join(sign if sign.isalnum() else "_" for sign in text.lower()).strip("_")


def differences_from_paper(study: Study) -> list[str]:
    """Return in what the study's training departs from the paper's (config/paper.yaml), a phrase each.

    Only a study without differences can reproduce or contradict the paper's PSNR.
    """
    if study.training is None:
        return ["nothing is trained"]
    paper = Study.load(paths.ROOT / "config" / "paper.yaml")
    assert paper.training is not None
    differences = []
    for what, here, there in (
        ("trained", study.data.train, paper.data.train),
        ("weights chosen", study.data.validation, paper.data.validation),
    ):
        if here != there:
            differences.append(f"{what} on {', '.join(here)} instead of {', '.join(there)}")
    ours, theirs = (PAPER | as_plain(training) for training in (study.training, paper.training))
    return [*differences, *_changes(ours, theirs, Training.model_fields)]


def own_departures(study: Study, network: str) -> list[str]:
    """Return what a user's own variant for a row of the paper changes that the paper's row does not, a phrase each.

    What the files of the paper's variants change belongs to their rows. The changes of a variant that stands for no
    row need no reason: there is nothing to compare it with.
    """
    found = variants.discover()
    variant = found.get(network)
    if study.training is None or variant is None or not variant.network.rows:
        return []
    if variant.file.parent == paths.ablations():
        return []
    rows = variant.network.rows.items()
    twins = [other for other in found.values() if other is not variant and rows & other.network.rows.items()]
    expected = twins[0].training if twins else {}
    ours, theirs = (PAPER | as_plain(training) for training in (study.training_of(network), study.training))
    phrases = [f"its file says {change}" for change in _changes(ours, theirs | expected, variant.training)]
    if study.train_of(network) != study.data.train:
        phrases.append(f"its file trains on {', '.join(study.train_of(network))}")
    return phrases


def _changes(ours: Mapping[str, Any], theirs: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    """Yield a phrase for each key of two `training` sections that differs and changes more than the order of sums."""
    for key in keys:
        if key not in ("threads", "form") and ours[key] != theirs[key]:
            yield f"{key.replace('_', ' ')} {as_words(ours[key])} instead of {as_words(theirs[key])}"


def as_words(value: Any) -> str:
    """Return the value of a key of `training` for a sentence: "sgd (momentum 0.9)"."""
    if isinstance(value, dict) and "name" in value:
        arguments = ", ".join(f"{key} {each}" for key, each in value.items() if key != "name")
        return f"{value['name']} ({arguments})" if arguments else str(value["name"])
    return "none" if value is None or value == [] else str(value)


def _overridden(content: Any, overrides: Mapping[str, Any]) -> Any:
    """Return a study's plain content, not validated yet, with the values of `OVERRIDES` that are given."""
    given = {word: value for word, value in overrides.items() if value not in (None, "")}
    if not isinstance(content, dict) or not given:
        return content
    content = deepcopy(content)
    for word, value in given.items():
        section, key = OVERRIDES[word]
        if section != "training":
            content.setdefault(section, {})
        if isinstance(content.get(section), dict):
            if key in ("root", "download"):  # a folder's name may be a number
                value = None if (key, value) == ("download", "none") else str(value)
            content[section][key] = value
    training = content.get("training")
    keys = ("iterations", "validate_every")
    if "iterations" in given and isinstance(training, dict) and all(isinstance(training.get(key), int) for key in keys):
        training["validate_every"] = max(1, min(training["validate_every"], training["iterations"]))
    return content


def _with_numbers(content: Any, read: Any) -> Any:
    """Return Snakemake's content with the numbers that it took for text, such as 1e-3, as our reader read them."""
    if isinstance(content, dict) and isinstance(read, dict):
        read = {str(key): value for key, value in read.items()}
        return {key: _with_numbers(value, read.get(key)) for key, value in content.items()}
    if isinstance(content, list) and isinstance(read, list) and len(content) == len(read):
        return [_with_numbers(*pair) for pair in zip(content, read, strict=True)]
    if isinstance(content, str) and isinstance(read, float):
        with contextlib.suppress(ValueError):
            return read if float(content) == read else content
    return content


def _in_order_of(given: Any, filled: Any) -> Any:
    """Return `filled`, the keys that `given` has too first, in its order."""
    if not isinstance(filled, dict) or not isinstance(given, dict):
        return filled
    given = {str(key): value for key, value in given.items()}
    return {key: _in_order_of(given.get(key), filled[key]) for key in given | filled if key in filled}


def _chosen(known: Iterable[str], names: str | tuple[str, ...]) -> list[str]:
    if names == "all":
        return [name for name in known if networks.info(name).in_all]
    wanted = set(names)
    return [name for name in known if name in wanted]


def _variant(network: str) -> variants.Variant | None:
    """Return the variant of that name, None for a published network; UserError with the nearest names otherwise."""
    variant = variants.discover().get(network)
    if variant is None:
        networks.info(network)  # raises
    return variant


def _check_selections(where: str | Path, use: str, selections: Iterable[str]) -> None:
    for text in selections:
        try:
            sources.parse_selection(text)
        except UserError as error:
            raise WrongValue(where, ("data", use), str(error)) from error


def _folders(section: Data | Weights) -> list[Path]:
    return [Path(folder) for folder in (section.root, section.download) if folder]
