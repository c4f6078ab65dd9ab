"""Find the HR and LR images of a folder, by names and sizes.

- HR: `HR/`, `<set>_HR/`, another folder with such a name (`GT`, `original`), or the folder itself.
- LR: `LR_bicubic/X4` beside HR as in EDSR and DIV2K, in any case of letters. Otherwise any folder near HR whose files
  match the HR files by name and have 1/scale of their sides: `LRBI/x4`, `LR_x4`, `LRbicx4`, `image_SRF_4` ...
- HR and LR in one folder: files that match by name (`a_HR`, `a_LR`; `0001`, `0001x4`; `gt_7`, `lq_7`), have the right
  sizes and show the same picture.

Names match where the same exchange (`_HR` for `_LR`, `x4` added) turns one into the other in all files. They are
compared in one Unicode form, NFC: a Mac writes the other one.
"""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from safmn.data import agreement, images
from safmn.data.pairs import Found, Pair, fits
from safmn.errors import UserError

SCALES = (2, 3, 4, 8)
SAME_PICTURE = 0.3  # correlation of structure from which two files of one folder are taken for HR and LR
_MAX_FOLDERS = 500  # that are searched for LR images
_OTHER_PICTURES = (
    *(".tif", ".tiff", ".gif", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".exr"),
    *(".hdr", ".heic", ".heif", ".avif"),
)
_START, _END = r"(?:^|[^a-z])", r"(?:$|[^a-z]|x\d)"
_LR = re.compile(rf"{_START}(?:lr|lq)(?:bicubic|bic|bi|bd|dn|unknown|mild|wild|difficult)?{_END}|low[ _-]?res", re.I)
_HR = re.compile(rf"{_START}(?:hr|gt|high|large|big|gtmod\d+){_END}|original|ground[ _-]?truth|high[ _-]?res", re.I)
_BICUBIC = re.compile(r"bic|lrbi(?![a-z])|(?:^|[^a-z])lr(?:$|[^a-z]|x\d)", re.I)
_SCALE = re.compile(r"x([2348])(?!\d)|(?<!\d)([2348])x(?![a-z0-9])|srf[_-]?([2348])(?!\d)", re.I)


Item = TypeVar("Item")


def survey(folder: Path | str, scale: int, border: str = "symmetric") -> Found:
    """Find the HR and LR images of a folder.

    Args:
        folder: the folder.
        scale: HR size / LR size; 1 for HR alone.
        border: of LR that is made, see `Pair`.

    Raises:
        UserError: no such folder, no image in it, an LR folder, two images of one name, an image without its LR, HR
            and LR in one folder that are not paired throughout, several LR folders that fit.
    """
    hr_folder = _hr_folder(Path(os.path.abspath(folder)), scale)  # "." has no name, and nothing beside it
    if _is_lr(hr_folder):
        raise UserError(f"{hr_folder} is an LR folder by its name: give the folder that holds HR, or rename it")
    hr = _by_name(list_images(hr_folder))
    if scale == 1:  # planning asks so
        return _found(hr, {}, border)
    if (usual := _usual_lr(hr_folder, scale)) is not None:
        return _found(hr, _all_partners(hr, usual, scale), border, _seen_from(hr_folder, usual))
    near = _near(hr_folder)
    lr_folder, partners, remarks = _search(hr_folder, hr, near, scale)
    if not partners:
        if pairs := _in_one_folder(hr_folder, hr, scale):
            partners = {name: hr[lr] for name, lr in pairs.items()}
            hr, lr_folder = {name: hr[name] for name in pairs}, "."
        elif not _HR.search(hr_folder.name):
            beside = [path for path in _folders(hr_folder.parent) if path != hr_folder and _has_pictures(path)]
            remarks += _larger(hr_folder, hr, list(dict.fromkeys([*near, *beside[:_MAX_FOLDERS]])))
    unread = [
        path.name
        for path in _folders(hr_folder)
        if _has_pictures(path)
        and not _is_lr(path)
        and not _scales_of(path.name)
        and path.name not in Path(lr_folder).parts[:1]
    ]
    if unread:
        remarks.append(f"pictures in folders inside {hr_folder.name} are not read: {', '.join(unread[:4])}")
    return _found(hr, partners, border, lr_folder, remarks)


def of_files(files: Sequence[Path], border: str = "symmetric") -> Found:
    """Return pairs of HR files, LR made; raise UserError where two files have one name."""
    return _found(_by_name(files), {}, border)


def _found(
    hr: Mapping[str, Path], lr: Mapping[str, Path], border: str, lr_folder: str = "", remarks: Sequence[str] = ()
) -> Found:
    return Found(tuple(Pair(name, hr[name], lr.get(name), border) for name in sorted(hr)), lr_folder, tuple(remarks))


def list_images(folder: Path) -> list[Path]:
    """Return the images directly inside a folder, sorted; hidden files and files that are no pictures are left out.

    Raises:
        UserError: no such folder, no image in it, or a picture in a format that is not read.
    """
    try:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: check the path")
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
    for entry in entries:
        if not _is_text(entry.name):
            raise UserError(f"{folder} has a file whose name is not UTF-8 ({entry.name!r}): rename it")
        if entry.suffix.lower() in _OTHER_PICTURES:
            raise UserError(f"{entry} is in a format that is not read: convert it to PNG, or remove it")
        if entry.suffix.lower() not in images.SUFFIXES and _is_picture(entry):
            raise UserError(f"{entry} is a picture by its content, but not by its name: let it end in .png or .jpg")
    pictures = [entry for entry in entries if entry.suffix.lower() in images.SUFFIXES and not entry.is_dir()]
    if not pictures:
        raise UserError(f"{folder} has no image ({', '.join(images.SUFFIXES)}): check the path")
    return pictures


def _by_name(files: Sequence[Path]) -> dict[str, Path]:
    """Return name without suffix, in NFC -> file; raise UserError where two files have one name."""
    names: dict[str, Path] = {}
    for file in files:
        name = unicodedata.normalize("NFC", file.stem)
        if name in names:
            raise UserError(f"{names[name]} and {file} have one name: remove or rename one")
        names[name] = file
    return names


# --- Folders ---------------------------------------------------------------------------------------------------------


def _hr_folder(folder: Path, scale: int) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: check the path")
    inner = _folders(folder)
    candidates = [path for path in inner if path.name == "HR"] or [path for path in inner if path.name.endswith("_HR")]
    if not candidates and not _has_pictures(folder):
        candidates = [path for path in inner if _HR.search(path.name) and not _is_lr(path)]
        if not candidates and (candidates := _of_scale(inner, scale)):
            # A scale alone may also be the mark of LR: beside a folder without any, it does not say which is meant.
            candidates += [
                path for path in inner if _has_pictures(path) and not _scales_of(path.name) and not _is_lr(path)
            ]
    if len(candidates) > 1:
        names = " and ".join(path.name for path in candidates)
        raise UserError(f"{folder} holds {names}: name the one that is meant")
    hr_folder = candidates[0] if candidates else folder
    if not _has_pictures(hr_folder):  # HR/x4/NAME_HR_x4.png
        below = _of_scale(_folders(hr_folder), scale)
        if len(below) == 1:
            return below[0]
    return hr_folder


def _of_scale(folders: list[Path], scale: int) -> list[Path]:
    return [path for path in folders if _scales_of(path.name) == {scale} and not _is_lr(path)]


def _usual_lr(hr_folder: Path, scale: int) -> Path | None:
    """Return `LR_bicubic/X4` beside HR, in any case of letters; the documented spelling is preferred."""
    if not hr_folder.name.upper().endswith("HR") or not (hr_folder.name[:-2] == "" or hr_folder.name[-3] == "_"):
        return None
    documented = hr_folder.with_name(hr_folder.name[:-2] + "LR_bicubic") / f"X{scale}"
    if documented.is_dir():
        return documented
    for outer in _folders(hr_folder.parent):
        if outer.name.lower() == documented.parent.name.lower():
            return next((path for path in _folders(outer) if path.name.lower() == documented.name.lower()), None)
    return None


def _near(hr_folder: Path) -> list[Path]:
    """Return the folders with pictures in and around the HR folder: two levels below its parent, three for LR folders.

    Around a folder that is not named HR there may be anything; there, only folders with a related name are returned.
    """
    named = _HR.search(hr_folder.name) is not None
    tops = [hr_folder]
    parents = [hr_folder.parent]
    if _SCALE.fullmatch(hr_folder.name) and _HR.search(hr_folder.parent.name):
        named, parents = True, [hr_folder.parent, hr_folder.parent.parent]
    for folder in (folder for parent in parents for folder in _folders(parent)):
        related = hr_folder.name.lower() in folder.name.lower() or _is_lr(folder) or _scales_of(folder.name)
        if folder != hr_folder and (named or related or _HR.search(folder.name)):
            tops.append(folder)
    folders = [
        folder
        for top in tops
        for folder, depth in _below(top)
        if depth < 2 or _LR.search(_seen_from(hr_folder, folder))
    ]
    near = dict.fromkeys(folder for folder in folders[:_MAX_FOLDERS] if folder != hr_folder and _has_pictures(folder))
    return list(near)


def _below(folder: Path, depth: int = 0) -> Iterator[tuple[Path, int]]:
    """Yield a folder and those in it with their depth, which is 0 to 2."""
    yield folder, depth
    if depth < 2:
        for inner in _folders(folder):
            yield from _below(inner, depth + 1)


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if _is_text(name)]


def _has_pictures(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.name.lower().endswith(images.SUFFIXES) and entry.name[0] != "." for entry in entries)
    except OSError:
        return False


def _is_lr(folder: Path) -> bool:
    """Return whether it is an LR folder by its name or, where that is only a scale (X4), by those above it."""
    names = [folder.name]
    if _SCALE.fullmatch(folder.name):
        names += [folder.parent.name, folder.parent.parent.name]
    return any(_LR.search(name) for name in names)


def _scales_of(name: str) -> set[int]:
    return {int(next(filter(None, groups))) for groups in _SCALE.findall(name)}


def _seen_from(hr_folder: Path, lr_folder: Path) -> str:
    """Return the path of an LR folder relative to the HR folder or to the one that holds both."""
    if hr_folder in lr_folder.parents:
        return lr_folder.relative_to(hr_folder).as_posix()
    above = next(path for path in hr_folder.parents if path in lr_folder.parents or path == lr_folder)
    return lr_folder.relative_to(above).as_posix()


def _search(
    hr_folder: Path, hr: Mapping[str, Path], near: list[Path], scale: int
) -> tuple[str, dict[str, Path], list[str]]:
    """Return the LR folder among those near HR, its files by HR name, and remarks on folders that are not used."""
    fitting: list[tuple[str, Path, dict[str, Path]]] = []
    unused: list[str] = []
    for folder in near:
        seen = _seen_from(hr_folder, folder)
        partners = _partners(hr, folder, scale) if scale in (_scales_of(seen) or {scale}) else None
        if partners and _sizes_fit(hr, partners, scale):
            fitting.append((seen, folder, partners))
        elif _LR.search(seen):
            unused.append(seen)
    if fitting:
        fitting.sort(key=lambda one: _rank(one[0]))
        (used, _, partners), *others = fitting
        equal = [folder for seen, folder, _ in fitting if _rank(seen) == _rank(used)]
        if len(equal) > 1:
            raise UserError(
                f"beside {hr_folder} several folders fit as its x{scale} LR ({', '.join(map(str, equal))}): "
                "move those that are not meant elsewhere"
            )
        remarks = [f"{seen} fits as LR, too, and is not used: LR is read from {used}" for seen, _, _ in others]
        return used, partners, remarks
    if not unused:
        return "", {}, []
    listed = ", ".join(unused[:4]) + (" ..." if len(unused) > 4 else "")
    remark = (
        f"LR is not read from {listed} beside HR: the files there are not x{scale} LR of these images by name and size"
    )
    return "", {}, [remark]


def _rank(seen: str) -> int:
    """Return 0 for bicubic LR by its name, more for other LR, most for a folder that has only the sizes."""
    if _LR.search(seen):
        return 0 if _BICUBIC.search(seen) else 1
    return 2 if _scales_of(seen) else 3


def _larger(folder: Path, files: Mapping[str, Path], near: list[Path]) -> list[str]:
    """Look beside `folder` for the same pictures 2, 3, 4 or 8 times as large: then it holds LR images.

    Returns:
        A remark on the folder with larger pictures.

    Raises:
        UserError: that folder is named as HR.
    """
    for other in near:
        if not (partners := _partners(files, other, 0)):
            continue
        first = next(iter(files))
        for scale in SCALES:
            try:
                same = _sizes_fit(partners, files, scale) and _same_picture(partners[first], files[first], scale)
            except UserError:  # a damaged picture in a folder that nobody named
                break
            if same:
                remark = f"{folder} has the images of {other} at 1/{scale} of their size"
                if _HR.search(other.name):
                    raise UserError(f"{remark}, so it is an LR folder: give {other}, or move one of them elsewhere")
                return [f"{remark}: if it is their LR, give {other} instead"]
    return []


# --- Names -----------------------------------------------------------------------------------------------------------

Marks = tuple[str, str]
"""The parts in which two names differ: ("_HR", "_LR"), ("", "x4")."""


def _all_partners(hr: Mapping[str, Path], folder: Path, scale: int) -> dict[str, Path]:
    """Return the LR file in a folder of each HR name; raise UserError where one is missing."""
    lr = _by_name(list_images(folder))
    if (partners := _matched(hr, lr, scale)) is not None:
        return partners
    name = next((name for name in hr if f"{name}x{scale}" not in lr), next(iter(hr)))
    raise UserError(
        f"{folder} lacks {name}x{scale}.png for {hr[name]}: add it, or remove the folder and LR images are made"
    )


def _partners(hr: Mapping[str, Path], folder: Path, scale: int) -> dict[str, Path] | None:
    """Return the file in a folder of each HR name; None where they do not match, or the folder cannot be used."""
    try:
        return _matched(hr, _by_name(list_images(folder)), scale)
    except UserError:
        return None


def _matched(hr: Mapping[str, Path], lr: Mapping[str, Path], scale: int) -> dict[str, Path] | None:
    """Return the LR file of each HR name, by the same exchange of marks in all names; None where there is none."""
    first = next(iter(hr))
    rules = {marks: sum(_shared(first, other)) for other in lr if (marks := _marks(first, other))}
    for marks in (("", f"x{scale}"), ("", ""), *sorted(rules, key=rules.__getitem__, reverse=True)):
        partners: dict[str, Path] = {}
        for name in hr:
            partner = next((other for other in _exchanged(name, marks) if other in lr), None)
            if partner is None:
                break
            partners[name] = lr[partner]
        if len(partners) == len(hr) == len(set(partners.values())):
            return partners
    return None


def _marks(first: str, second: str, digits: bool = False) -> Marks | None:
    """Return what differs between two names; None where they share nothing, or differ in digits alone."""
    start, end = _shared(first, second)
    marks = first[start : len(first) - end], second[start : len(second) - end]
    if not digits and not re.search(r"[^\W\d_]", "".join(marks)):
        return None
    return marks if re.search(r"[^\W_]", first[:start] + first[len(first) - end :]) else None


def _shared(first: str, second: str) -> tuple[int, int]:
    """Return how many characters two names share at their start, and after that at their end."""
    start = len(os.path.commonprefix([first, second]))  # noqa: RUF071 (characters are meant)
    end = len(os.path.commonprefix([first[start:][::-1], second[start:][::-1]]))  # noqa: RUF071
    return start, end


def _exchanged(name: str, marks: Marks) -> Iterator[str]:
    """Yield the names that an exchange of marks gives, the one at the end first."""
    old, new = marks
    for at in range(len(name) - len(old), -1, -1):
        if name.startswith(old, at):
            yield name[:at] + new + name[at + len(old) :]


def _in_one_folder(folder: Path, files: Mapping[str, Path], scale: int) -> dict[str, str] | None:
    """Return HR name -> LR name where a folder holds both; None where it holds HR alone.

    Raises:
        UserError: HR and LR that are not paired throughout, or of another scale.
    """
    sizes = {name: images.size(file) for name, file in files.items()}
    for ratio in (scale, *(other for other in SCALES if other != scale)):
        large = defaultdict(list)
        for name, (height, width) in sizes.items():
            large[height // ratio, width // ratio].append(name)
        small = [name for name in files if large.get(sizes[name])]
        tally: Counter[Marks] = Counter()
        for name in small[:8]:
            others = sorted(large[sizes[name]], key=lambda other: -sum(_shared(other, name)))
            tally.update({marks: 1 for other in others[:2] if (marks := _marks(other, name, digits=True))})
        for marks, _ in tally.most_common():
            pairs = {}
            for name in files:
                others = [other for other in _exchanged(name, marks) if other in files]
                partner = next((other for other in others if fits(sizes[name], sizes[other], ratio)), None)
                if partner is not None:
                    pairs[name] = partner
            sample = _sample(list(pairs.items()))
            same = sum(_same_picture(files[first], files[second], ratio) for first, second in sample)
            if not pairs or 2 * same <= len(sample):
                continue
            first, second = next(iter(pairs.items()))
            both = f"{folder} holds HR and x{ratio} LR together ({files[first].name}, {files[second].name})"
            if ratio != scale:
                raise UserError(f"{both}, not x{scale}: evaluate them at x{ratio}, or move HR to a folder of its own")
            alone = sorted(set(files) - set(pairs) - set(pairs.values()))
            if alone or set(pairs) & set(pairs.values()) or len(set(pairs.values())) < len(pairs):
                odd = files[alone[0]].name if alone else files[first].name
                raise UserError(f"{both}, but {odd} is in no pair: move HR to a folder of its own")
            return pairs
    return None


def _sample(items: list[Item]) -> list[Item]:
    """Return the first, the middle and the last item: opening every file would take minutes."""
    return items[:: max(1, (len(items) - 1) // 2)]


def _sizes_fit(hr: Mapping[str, Path], lr: Mapping[str, Path], scale: int) -> bool:
    """Return whether a few of the HR files have the sizes of their LR files x scale."""
    return all(fits(images.size(hr[name]), images.size(lr[name]), scale) for name in _sample(list(hr)))


def _same_picture(hr: Path, lr: Path, scale: int) -> bool:
    correlation = agreement.compare(images.read(lr), images.read(hr), scale).correlation
    return correlation is None or correlation > SAME_PICTURE


def _is_picture(file: Path) -> bool:
    """Return whether a file that is not named as a picture begins as one: a JPEG called .jfif, half of a download."""
    try:
        if not file.is_file():
            return False
        with open(file, "rb") as handle:
            return handle.read(8).startswith((images.PNG, images.JPEG))
    except OSError:
        return False


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
