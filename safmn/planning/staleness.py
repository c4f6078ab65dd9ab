"""Whether a result still is what the study would give today, and if not, what changed: specification, code or data."""

from pathlib import Path
from typing import Any

from safmn import layout
from safmn.data import sources
from safmn.data.packed import PackedPairs, open_pairs
from safmn.data.patches import PatchSampler
from safmn.errors import UserError
from safmn.study import Run, Study
from safmn.training import identity


class Today:
    """The study's runs as they would be trained now. Reads packed datasets, makes none.

    Args:
        study: the study.
        folder: its results, `results/<study>`.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study = study
        self._folder = folder
        self._known: dict[int, list[PackedPairs] | None] = {}

    def key(self, run: Run, specification: dict[str, Any] | None = None) -> str | None:
        """The key that its state and record would have (with another specification); None where data is not packed."""
        datasets = self.datasets(run.scale)
        if datasets is None:
            return None
        return identity.key_of(
            specification or self.study.specification(run), [packed.fingerprint for packed in datasets]
        )

    def datasets(self, scale: int) -> list[PackedPairs] | None:
        """Training and validation images at a scale; None where some are not packed."""
        if scale not in self._known:
            try:
                self._known[scale] = [self._open(text, scale) for use in _USES for text in self.study.selections(use)]
            except UserError:
                self._known[scale] = None
        return self._known[scale]

    def patches(self, run: Run) -> tuple[int, int]:
        """(images, bytes) that a run draws its patches from, as run.json records them; (0, 0) if it cannot."""
        settings = self.study.specification(run)["training"]
        train = (self.datasets(run.scale) or [])[: len(self.study.data.train)]
        try:
            sampler = PatchSampler(
                train, 1, settings["patch"], run.scale, 0, draw=settings["draw"], small=settings["small_images"]
            )
        except UserError:
            return 0, 0
        return len(sampler.names), sampler.bytes

    def packed_since(self, run: Run, when: float) -> bool:
        """Whether a dataset of the run was packed after a time, in seconds since the epoch."""
        return any((packed.path / layout.INDEX).stat().st_mtime > when for packed in self.datasets(run.scale) or [])

    def _open(self, text: str, scale: int) -> PackedPairs:
        name, part = sources.parse_selection(text)
        folder = self._folder / layout.packed(name, scale)
        if not (folder / layout.INDEX).is_file():
            raise UserError(f"{name} is not packed")
        packed = open_pairs(folder, scale)
        assert isinstance(packed, PackedPairs)
        return packed.select(part)


_USES = ("train", "validation")


def changes(today: Today, run: Run, record: dict[str, Any], finished: float) -> list[str] | None:
    """In what today's run departs from a finished one, a phrase each.

    Args:
        record: its run.json.
        finished: when that was written, in seconds since the epoch.

    Returns:
        Empty if nothing changed; None if that cannot be told, since the data is not packed any more.
    """
    asked, had = today.study.specification(run), record.get("specification")
    key = today.key(run)
    differing = differences(had, asked)
    if key is None:
        return [f"specification: {', '.join(differing)}"] if differing else None
    if record.get("key") == key:
        return []
    if differing:
        found = [f"specification: {', '.join(differing)}"]
        if record.get("key") != _key_with(today, run, had):
            found.append("code or data, too")
        return found
    patches = record.get("patches")
    if isinstance(patches, dict) and (patches.get("images"), patches.get("bytes")) != today.patches(run):
        return ["data: the training images are others"]
    if today.packed_since(run, finished):
        return ["data (it was packed again since) or code"]
    return ["code"]


def differences(had: Any, asked: Any, where: str = "") -> list[str]:
    """What differs between two pieces of plain data, a phrase for each value: "training.batch 2, now 4"."""
    if isinstance(had, dict) and isinstance(asked, dict):
        inner = f"{where}." if where else ""
        keys = [*asked, *(key for key in had if key not in asked)]
        return [text for key in keys for text in differences(had.get(key), asked.get(key), f"{inner}{key}")]
    return [] if had == asked else [f"{where or 'all'} {_shown(had)}, now {_shown(asked)}"]


def _key_with(today: Today, run: Run, specification: Any) -> str | None:
    try:
        return today.key(run, specification)
    except (UserError, LookupError, TypeError, ValueError):  # a record of another version or a damaged one
        return None


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
