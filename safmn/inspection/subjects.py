"""Which networks a study looks into, with which weights, and on which scenes."""

from dataclasses import dataclass
from typing import Any

from safmn import layout, networks
from safmn.data.sources import parse_selection
from safmn.study import Run, Study

PUBLISHED = "published"
MAX_SCENES = 3  # where the study does not choose


@dataclass(frozen=True)
class Subject:
    """A network with the weights that are inspected.

    Attributes:
        network: the network's name.
        scale: its scale.
        run: the study's run whose best weights they are; None for the authors' published weights and for bicubic.
    """

    network: str
    scale: int
    run: Run | None = None

    @property
    def weights(self) -> str:
        """Name of the weights, as of folders below `quality/`: `seed0_best` or `published`."""
        return PUBLISHED if self.run is None else layout.trained(self.run.seed, "best")

    @property
    def stem(self) -> str:
        """Path of its files below `results/<study>/`, without suffix."""
        return layout.inspection(self.network, self.scale, self.weights)


def scale_of(study: Study) -> int:
    """Return the scale of the figures: as the study says, else x4, else its first."""
    return study.figures.scale or (4 if 4 in study.scales else study.scales[0])


def subjects(study: Study) -> list[Subject]:
    """Return what Figures 2, 5 and 6 show: bicubic, published networks in Table 1's order, then the study's variants.

    A variant is shown with the study's first seed and with its authors' weights, as far as either exists.
    """
    scale = scale_of(study)
    shown = study.figures.networks
    order = [*networks.all_networks()]
    again = [name for name in study.trained if name in study.retrain and name not in study.networks]
    chosen = [*study.networks, *again, *study.variants]
    if shown != "all":
        points = {point for name in shown for point in study.sweeps.get(name, ())}
        chosen = [name for name in [*order, *study.networks] if name in {*shown, *points}]
    inspected = [Subject("bicubic", scale)]
    for name in chosen:
        if name == "bicubic" or scale not in networks.info(name).scales:
            continue
        runs = [run for run in study.runs(name) if run.scale == scale] if name in study.trained else []
        if not runs or study.published_weights(name, scale) is not None:
            inspected.append(Subject(name, scale))
        if runs:
            inspected.append(Subject(name, scale, runs[0]))
    return inspected


def scenes(study: Study, tested: list[str]) -> list[dict[str, Any]]:
    """Return the scenes: `test` (a selection of the study's), `image` and `at`.

    `image` None is the first image, `at` None the place with most texture.

    Args:
        study: the study.
        tested: those of its test sets that are available.
    """
    chosen = study.figures.scenes
    if not chosen:
        return [{"test": text, "image": None, "at": None} for text in tested[:MAX_SCENES]]
    by_name = {parse_selection(text)[0]: text for text in reversed(tested)}
    return [
        {"test": by_name[scene.test], "image": scene.image, "at": scene.at} for scene in chosen if scene.test in by_name
    ]
