"""What is asked: a study names data, scales, seeds and variants; study + variant -> a run's resolved specification."""

import json
import re
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safmn import layout, paths
from safmn.configuration import check, read_yaml
from safmn.errors import UserError
from safmn.networks import variants
from safmn.networks.registry import published_networks

MOST_THREADS = 1024  # the library that would start them takes any number and dies of it


# What `--config` may give as a single word: word -> (section, key).
SHORT = {
    "data_root": ("data", "root"),
    "data_download": ("data", "download"),
    "weights_root": ("weights", "root"),
    "weights_download": ("weights", "download"),
    **{key: ("training", key) for key in ("iterations", "batch", "patch", "ema", "precision", "threads")},
    **{key: ("efficiency", key) for key in ("images", "rounds", "processes", "modes")},
}


@dataclass(frozen=True)
class Run:
    """One training run: a variant at a scale with a seed."""

    variant: str
    scale: int
    seed: int

    @property
    def folder(self) -> str:
        """Its folder, below `results/<study>/training/`."""
        return layout.run_name(self.variant, self.scale, self.seed)


class Study:
    """One complete configuration, validated and with every default filled in.

    Attributes:
        content: the study as plain data, as `results/<study>/study.json` keeps it.
    """

    def __init__(self, content: Any, where: str | Path) -> None:
        self.content: dict[str, Any] = check(content, "study", where)
        self.where = str(where)
        self._expand_home()
        self._check_names()
        self._check_data()
        self._check_training()
        self._check_figures()

    @classmethod
    def load(cls, file: str | Path) -> "Study":
        """Reads a study from YAML or JSON, or the package's of that name; UserError that names file and key."""
        file = paths.study(file)
        return cls(read_yaml(file), file)

    @classmethod
    def from_snakemake(cls, config: dict[str, Any], files: list[Any]) -> "Study":
        """The study that Snakemake's `config` holds, after the overrides that `--config` may give.

        The words of `SHORT` stand for keys of the same meaning in a study's sections (a folder `none` for downloads
        turns them off); `variants`, `networks`, `scales` and `seeds` may be words with commas, and `extra_seeds=none`
        drops them. Other keys are given as in the file.
        """
        where = ", ".join(str(file) for file in files) or "config/mini.yaml"
        try:
            content = json.loads(json.dumps(config))  # a plain copy: Snakemake's own must not change
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{where}: holds something that is not plain data: {error}") from error
        for word, (section, key) in SHORT.items():
            value = content.pop(word, None)
            if value in (None, ""):
                continue
            if section != "training":
                content.setdefault(section, {})
            if isinstance(content.get(section), dict):
                if key in ("root", "download"):  # a folder's name may be a number
                    value = None if (key, value) == ("download", "none") else str(value)
                content[section][key] = value
        training = content.get("training")
        if isinstance(training, dict) and all(
            isinstance(training.get(key), int) for key in ("iterations", "validate_every")
        ):
            training["validate_every"] = max(1, min(training["validate_every"], training["iterations"]))
        for key in ("variants", "networks"):
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
        return cls(content, where)

    # --- what it holds ---

    @property
    def name(self) -> str:
        return self.content["name"]

    @property
    def scales(self) -> list[int]:
        return self.content["scales"]

    @property
    def data(self) -> dict[str, Any]:
        return self.content["data"]

    @property
    def roots(self) -> list[Path]:
        """The folders in which datasets are looked for, in turn: the root, then where downloads go."""
        return _folders(self.data)

    @property
    def weights_roots(self) -> list[Path]:
        """The folders in which published weights are looked for, in turn."""
        return _folders(self.content["weights"])

    @property
    def shareable(self) -> dict[str, Any]:
        """The content without the folders of whoever runs it, to be passed on."""
        shown = deepcopy(self.content)
        for key in ("root", "folders", "download"):
            shown["data"].pop(key, None)
        shown.pop("weights", None)
        return shown

    @property
    def training(self) -> dict[str, Any] | None:
        return self.content["training"]

    @property
    def results(self) -> Path:
        """`results/<study>`, relative to where Snakemake or `safmn` runs."""
        return Path("results") / self.name

    def folder(self, chosen: str | Path | None = None) -> Path:
        """The folder of results that a command was given, or the study's own; UserError where it is a file."""
        folder = Path(chosen) if chosen else self.results
        if folder.exists() and not folder.is_dir():
            raise UserError(f"--results {folder} is not a folder: name the study's")
        return folder

    @cached_property
    def variants(self) -> list[str]:
        """Names of the variants that are trained (all that are counted, if the study trains none)."""
        asked = self.content["variants"]
        known = list(variants.discover())
        return known if asked == "all" else [name for name in known if name in asked]

    @cached_property
    def networks(self) -> list[str]:
        """Names of the published networks."""
        asked = self.content["networks"]
        known = list(published_networks())
        return known if asked == "all" else [name for name in known if name in asked]

    def seeds(self, variant: str) -> list[int]:
        """The seeds of one variant."""
        extra = self.content["extra_seeds"].get(variant, [])
        return self.content["seeds"] + [seed for seed in extra if seed not in self.content["seeds"]]

    def scales_of(self, variant: str) -> list[int]:
        """The baseline is trained at every scale of the study, an ablation at x4 alone, as in the paper."""
        if variant == "safmn" or 4 not in self.scales:
            return self.scales
        return [4]

    def runs(self, variant: str | None = None) -> list[Run]:
        """Every training run, or those of one variant."""
        if self.training is None:
            return []
        chosen = self.variants if variant is None else [variant]
        return [
            Run(name, scale, seed) for name in chosen for scale in self.scales_of(name) for seed in self.seeds(name)
        ]

    def packed_datasets(self) -> list[tuple[str, int]]:
        """(dataset, scale) of each that is packed: to train on where there are runs, to test on at all."""
        from safmn.data.sources import parse_selection

        trained = sorted({run.scale for run in self.runs()})
        wanted: dict[tuple[str, int], None] = {}
        for uses, scales in ((("train", "validation"), trained), (("test",), sorted(self.scales))):
            for scale in scales:
                for text in (text for use in uses for text in self.data[use]):
                    wanted[parse_selection(text)[0], scale] = None
        return list(wanted)

    def to_fetch(self) -> dict[str, dict[str, list[int]]]:
        """What is to be downloaded: source -> dataset -> scales; see `safmn.data.supply`."""
        from safmn.data import supply

        root, download = (Path(self.data[key]) if self.data[key] else None for key in ("root", "download"))
        try:
            return supply.to_fetch(self.packed_datasets(), root, self.data["folders"], download)
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from error

    def weights_to_fetch(self) -> dict[str, tuple[str, int]]:
        """Published weights to be downloaded: file name -> (network, a scale that it serves)."""
        from safmn.networks import published_weights

        weights, found = self.content["weights"], {}
        for network in [*self.networks, *self.variants] if weights["download"] else []:
            for scale in self.scales:
                known = published_weights.find(network, scale)
                if known and published_weights.at_hand(network, scale, weights["root"]) is None:
                    found.setdefault(known.remote.name, (network, scale))
        return found

    def published_weights(self, network: str, scale: int) -> Path | None:
        """The authors' weights of a network: at hand, or where they will be downloaded; None where there are none."""
        from safmn.networks import published_weights

        known = published_weights.find(network, scale)
        if known and known.remote.name in self.weights_to_fetch():
            return self.weights_roots[-1] / known.remote.name
        return published_weights.at_hand(network, scale, *self.weights_roots)

    def specification(self, run: Run) -> dict[str, Any]:
        """Everything that determines the result of a run, and nothing else: plain data, fit to be hashed."""
        if self.training is None:
            raise UserError(f"{self.where}: training: this study trains nothing; give it a training section")
        variant = variants.discover().get(run.variant)
        if variant is None:
            from safmn import networks

            if run.variant not in networks.names():
                networks.info(run.variant)  # raises, with the nearest names
            switches, changes = {}, {}
        else:
            switches, changes = variant.switches, variant.training
        return {
            "network": run.variant,
            "switches": switches,
            "scale": run.scale,
            "seed": run.seed,
            "train": self.data["train"],
            "validation": self.data["validation"],
            "training": self.training | changes,
        }

    def _expand_home(self) -> None:
        """Makes `~` the home folder in every folder that the study names."""
        data, weights = self.content["data"], self.content["weights"]
        places = [(data, key, f"data.{key}") for key in ("root", "download")]
        places += [(weights, key, f"weights.{key}") for key in ("root", "download")]
        places += [(data["folders"], name, f"data.folders.{name}") for name in data["folders"]]
        for section, key, where in places:
            try:
                if section[key] and section[key].startswith("~"):
                    section[key] = str(Path(section[key]).expanduser())
            except RuntimeError as error:
                raise UserError(f"{self.where}: {where}: {section[key]!r}: {error}") from error

    # --- what must hold beyond the schema ---

    def _check_names(self) -> None:
        if self.name.endswith("\n"):  # a pattern's $ lets it pass
            raise UserError(f"{self.where}: name: ends with a line break: take it away")
        for key, known in (("variants", variants.discover()), ("networks", published_networks())):
            asked = self.content[key]
            for name in [] if asked == "all" else asked:
                if name not in known:
                    raise UserError(f"{self.where}: {key}: {name!r} is not known; `safmn list` shows all")
        for name in self.content["extra_seeds"]:
            if name not in variants.discover():
                raise UserError(f"{self.where}: extra_seeds: {name!r} is not a variant; `safmn list` shows all")

    def _check_data(self) -> None:
        from safmn.data.sources import parse_selection

        for section in ("data", "weights"):
            folder = self.content[section]["download"]
            # Snakemake would take braces for wildcards.
            if folder is not None and (not folder.strip() or not folder.isprintable() or set(folder) & set("{}")):
                raise UserError(f"{self.where}: {section}.download: {folder!r} cannot be used: choose another folder")
        for use in ("train", "validation", "test"):
            for text in self.data[use]:
                try:
                    parse_selection(text)
                except UserError as error:
                    raise UserError(f"{self.where}: data.{use}: {error}") from error

    def _check_training(self) -> None:
        if self.training is None:
            return
        training = self.training
        for use in ("train", "validation"):
            if not self.data[use]:
                raise UserError(f"{self.where}: data.{use}: a study that trains needs at least one dataset here")
        if training["threads"] > MOST_THREADS:
            raise UserError(f"{self.where}: training.threads: is more than {MOST_THREADS}")
        if training["minimum_learning_rate"] > training["learning_rate"]:
            raise UserError(f"{self.where}: training.minimum_learning_rate: is above training.learning_rate")
        for name in self.variants:
            variant = variants.discover()[name]
            changed = training | variant.training
            if changed["minimum_learning_rate"] > changed["learning_rate"]:
                raise UserError(
                    f"{variant.file}: training: with what {self.where} says, the minimum learning rate is above the "
                    f"learning rate ({changed['minimum_learning_rate']:g} > {changed['learning_rate']:g})"
                )
        if training["validate_every"] > training["iterations"]:
            raise UserError(
                f"{self.where}: training.validate_every: is above training.iterations, so no best is chosen"
            )

    def _check_figures(self) -> None:
        from safmn.data.sources import parse_selection

        asked = self.content["figures"]["networks"]
        for name in [] if asked == "all" else asked:
            if name not in variants.discover() and name not in published_networks():
                raise UserError(f"{self.where}: figures.networks: {name!r} is not known; `safmn list` shows all")
        scale = self.content["figures"]["scale"]
        if scale is not None and scale not in self.scales:
            known = ", ".join(map(str, self.scales))
            raise UserError(
                f"{self.where}: figures.scale: {scale} is not one of the study's scales ({known}); choose one"
            )
        tested = [parse_selection(text)[0] for text in self.data["test"]]
        for scene in self.content["figures"]["scenes"]:
            if scene["test"] not in tested:
                raise UserError(
                    f"{self.where}: figures.scenes: {scene['test']!r} is not among data.test, so its images may have "
                    "been trained on; add it there"
                )


def _folders(section: dict[str, Any]) -> list[Path]:
    return [Path(section[key]).expanduser() for key in ("root", "download") if section[key]]


def differences_from_paper(study: Study) -> list[str]:
    """In what the study's training departs from the paper's (config/paper.yaml), a phrase each; empty if in nothing.

    Only a study without differences can reproduce or contradict the paper's PSNR.
    """
    if study.training is None:
        return ["nothing is trained"]
    paper = Study.load(paths.ROOT / "config" / "paper.yaml")
    found = []
    for use, what in (("train", "trained"), ("validation", "weights chosen")):
        if study.data[use] != paper.data[use]:
            found.append(f"{what} on {', '.join(study.data[use])} instead of {', '.join(paper.data[use])}")
    for key, value in paper.training.items():
        if key != "threads" and study.training[key] != value:  # their number changes the order of sums alone
            found.append(f"{key.replace('_', ' ')} {study.training[key]} instead of {value}")
    return found
