"""The verifier's own data: packed anew, and compared with the manifests of an archive image by image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safmn import layout
from safmn.archive.findings import CONFIRMED, NOT_CHECKED, UNDECIDED, Finding
from safmn.archive.opening import Opened
from safmn.data import manifest, packed, sources
from safmn.data.packed import PackedPairs
from safmn.errors import UserError, as_line
from safmn.study import Study


@dataclass
class OwnData:
    """Datasets of the verifier.

    Attributes:
        archive: whose manifests they are compared with.
        study: says where they lie, and how LR is made.
        folder: for packed datasets.
        findings: one for each dataset and scale that was asked for.
    """

    archive: Opened
    study: Study
    folder: Path
    findings: list[Finding] = field(default_factory=list)
    _same: dict[str, bool] = field(default_factory=dict)

    def open(self, texts: Sequence[str], scale: int) -> list[PackedPairs]:
        """Return selections of images at a scale; UserError if a dataset is not the archive's, or is absent."""
        names = dict.fromkeys(sources.parse_selection(text)[0] for text in texts)
        other = [layout.packed_name(name, scale) for name in names if not self._is_same(name, scale)]
        if other:
            raise UserError(f"your data {', '.join(other)} are not the archive's, or absent")
        return [self._open(text, scale) for text in texts]

    def _open(self, text: str, scale: int) -> PackedPairs:
        data = self.study.data
        return packed.open_selection(text, scale, self.folder, self.study.roots, data.folders, data.border)

    def _is_same(self, name: str, scale: int) -> bool:
        place = layout.packed_name(name, scale)
        if place not in self._same:
            finding = self._compared(name, scale, place)
            self.findings.append(finding)
            self._same[place] = finding.verdict == CONFIRMED
        return self._same[place]

    def _compared(self, name: str, scale: int, place: str) -> Finding:
        what = f"your data {place}"
        try:
            theirs = manifest.read(self.archive.results / layout.packed(name, scale))
        except UserError:
            return Finding(what, NOT_CHECKED, "the archive has no manifest of it")
        try:
            self._open(name, scale)
            ours = manifest.read(self.folder / place)
        except UserError as error:
            return Finding(what, NOT_CHECKED, as_line(error))
        if ours.digest == theirs.digest:
            return Finding(what, CONFIRMED, f"{len(ours.images)} images, the same pixels as the archive's")
        texts = manifest.differences(theirs, ours)
        note = f"they are not the archive's (the first is the archive): {'; '.join(texts)}"
        return Finding(what, UNDECIDED, note)
