"""Fetch datasets and weights: find out what is missing, download it, unpack archives, put images in place.

Archives are kept in `<root>/archives` while they are needed, and unpacked into a hidden folder there. A folder of
images appears where `sources.locate` finds it only when all its images are there, so that no training takes half a
dataset for a whole one. Images that are already there are never replaced.
"""

import contextlib
import errno
import filecmp
import logging
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from safmn.data import archives, catalogue, sources
from safmn.data.catalogue import HR, Archive
from safmn.data.download import ATTEMPTS, Stopped, Unavailable, Watch, download, lock_of, remaining, require_curl
from safmn.data.images import SUFFIXES
from safmn.data.remote import Corrections, Remote
from safmn.errors import UserError
from safmn.files import check_space
from safmn.locks import hold
from safmn.progress import Progress

STAGES = {
    "download": "",
    "verify": "verifying",
    "unpack": "unpacking",
    "wait": "waiting for another process",
    "retry": "waiting to try again",
}
_log = logging.getLogger(__name__)

Wish = tuple[str, int]
"""A dataset and a kind of its images: HR, or LR at a scale."""


@dataclass
class Task:
    """One file to download.

    Attributes:
        remote: the file.
        folder: where it goes.
        archive: the archive that it is; None: a file that is kept as it is.
        wishes: what to take out of the archive.
        path: the file, once it is there.
        problem: why it failed.
    """

    remote: Remote
    folder: Path
    archive: Archive | None = None
    wishes: list[Wish] = field(default_factory=list)
    path: Path | None = None
    problem: UserError | None = None

    @property
    def stage(self) -> Path:
        """Return the hidden folder that the archive is unpacked into."""
        return self.folder / f".{self.remote.name}.unpacked"

    @property
    def source_failed(self) -> bool:
        """Return whether another archive with the same images may help; it does not against a full disk."""
        return isinstance(self.problem, Unavailable | archives.BadArchive)


@dataclass
class Fetcher:
    """Fetch datasets and files into one folder.

    Attributes:
        root: the folder of datasets or weights.
        corrections: mirror and other facts.
        attempts: for each URL, in a row without a new byte.
        jobs: number of downloads at once.
        keep_archives: leave archives in `root/archives` after unpacking.
        progress: shows the transfers in MB (10**6 bytes).
    """

    root: Path
    corrections: Corrections = field(default_factory=Corrections)
    attempts: int = ATTEMPTS
    jobs: int = 4
    keep_archives: bool = False
    progress: Progress = field(default_factory=lambda: Progress(unit="MB"))
    stop: threading.Event = field(default_factory=threading.Event)

    def run(
        self, datasets: Iterable[str], kinds: set[int], files: Iterable[Remote] = (), room_for: Iterable[str] = ()
    ) -> list[Task]:
        """Fetch what is missing of datasets, and files.

        Args:
            datasets: names in `catalogue.FOLDERS`.
            kinds: HR and scales of LR images; those that are published are fetched.
            files: what to download into the root.
            room_for: datasets that others fetch into the root meanwhile: the disk must have room for them as well.

        Returns:
            The tasks, done and failed. Where an archive fails and another one has the same images, that is tried, too.

        Raises:
            UserError: curl or space is missing, found before the first byte; a folder is in the way.
            KeyboardInterrupt: what arrived is kept.
        """
        tasks = [Task(self.corrections.apply(remote), self.root) for remote in files]
        tasks += self._tasks(self.missing(datasets, kinds))
        if any(not (task.folder / task.remote.name).exists() for task in tasks):
            require_curl()
        others = []
        for dataset in room_for if tasks else ():
            with contextlib.suppress(UserError):  # reported by whoever fetches it
                others += self.missing([dataset], kinds)
        self._check_space([*tasks, *self._tasks(others)])
        done: list[Task] = []
        with self.progress:
            while tasks:
                self._work_on(tasks)
                done += tasks
                wishes = [wish for task in tasks if task.source_failed for wish in task.wishes]
                tasks = self._tasks(wishes, {task.remote.name for task in done})
                for task in tasks:
                    _log.info("trying %s from %s instead", task.remote.name, task.remote.host)
        return done

    def missing(self, datasets: Iterable[str], kinds: set[int]) -> list[Wish]:
        """Return which images of the kinds that are published are not all there."""
        return [
            (dataset, kind)
            for dataset in datasets
            for kind in sorted(kinds & {kind for archive in catalogue.ARCHIVES for kind in archive.kinds(dataset)})
            if len(self.present(dataset, kind)) < self.count(dataset)
        ]

    def count(self, dataset: str) -> int:
        """Return how many images a dataset has."""
        return self.corrections.images.get(dataset, sources.DATASETS[dataset].images)

    def present(self, dataset: str, kind: int) -> set[str]:
        """Return the names of the images of a kind that are there."""
        return _images(self.place(dataset, kind), dataset, kind)

    def place(self, dataset: str, kind: int) -> Path:
        """Return the folder for a kind of images: the one that has some of them, else the publishers'."""
        hr = self._hr_folder(dataset)
        return hr if kind == HR else hr.with_name(hr.name[:-2] + "LR_bicubic") / f"X{kind}"

    def _hr_folder(self, dataset: str) -> Path:
        """Return the HR folder that `sources.locate` and `layouts` find or will find.

        Raises:
            UserError: a folder that would be found before it cannot be completed.
        """
        own = self.root / catalogue.FOLDERS[dataset]
        try:
            folder = sources.locate(dataset, self.root)
        except UserError:
            return own
        hr = next(path for path in (folder / "HR", *sorted(folder.glob("*_HR")), folder) if path.is_dir())
        count = len(_images(hr, dataset, HR))
        if count and hr.name.endswith("HR"):
            return hr
        candidates = [self.root / name for name in sources.DATASETS[dataset].folders]
        if any(own in (path, path / "HR") for path in candidates[: candidates.index(folder) + 1]):
            return own
        raise UserError(
            f"{folder} would hide the downloaded {dataset}, but holds {count} of its images and no folder HR: move "
            "them into a folder HR in it, or move it away"
        )

    def _tasks(self, wishes: list[Wish], tried: Iterable[str] = ()) -> list[Task]:
        """Return the archives that fulfil the wishes, without those that were tried."""
        tasks: dict[str, Task] = {}
        for dataset in dict.fromkeys(dataset for dataset, _ in wishes):
            kinds = {kind for name, kind in wishes if name == dataset}
            for archive in catalogue.archives_of(dataset, kinds):
                name = archive.remote.name
                useful = kinds & set(archive.kinds(dataset))
                if name not in tried and useful:
                    new = Task(self.corrections.apply(archive.remote), self.root / "archives", archive)
                    tasks.setdefault(name, new).wishes += [(dataset, kind) for kind in sorted(useful)]
                    kinds -= useful
        return list(tasks.values())

    def _check_space(self, tasks: list[Task]) -> None:
        """Check that there is room for downloads and their images, which are as large outside an archive as inside."""
        needed: dict[str, int] = {}
        for task in tasks:
            remote, unpacked = task.remote, 0
            if task.archive is not None:
                if remote.size is None and remote.name not in self.corrections.files:
                    remote = replace(remote, size=task.archive.about)
                unpacked = remote.size or 0
            needed[remote.name] = unpacked + remaining(remote, task.folder)
        check_space(self.root, sum(needed.values()), ", ".join(needed))

    def _work_on(self, tasks: list[Task]) -> None:
        """Work on tasks in threads; an unexpected exception in one of them stops all and is raised."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for future in as_completed([pool.submit(self._work, task) for task in tasks]):
                    future.result()
            except BaseException:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _work(self, task: Task) -> None:
        """Do one task; a UserError is stored in it."""
        watch = self._watch(task.remote.name)
        try:
            if task.archive is None:
                task.path = download(task.remote, task.folder, attempts=self.attempts, watch=watch)
            else:
                with hold(lock_of(task.folder / f"{task.remote.name}.unpacking"), lambda: watch("wait", 0, None)):
                    # Another process may have done it in the meantime.
                    task.wishes = [wish for dataset, kind in task.wishes for wish in self.missing([dataset], {kind})]
                    if task.wishes:
                        self._unpack(task, task.archive, watch)
        except UserError as error:
            task.problem = error
        except OSError as error:
            where = error.filename or self.root
            task.problem = UserError(f"cannot write {where}: {error.strerror or error}; choose another folder")

    def _watch(self, name: str) -> Watch:
        """Return a function that shows one file's progress; each stage has a rate and a time left of its own."""
        task = self.progress.task(name)
        current = "download"

        def watch(stage: str, done: int, total: int | None) -> None:
            nonlocal current
            if self.stop.is_set():
                raise Stopped
            if stage != current:
                current = stage
                task.restart(f"{name} {STAGES[stage]}".strip(), done / 1e6)
            task(done / 1e6, None if total is None else total / 1e6)

        return watch

    def _unpack(self, task: Task, archive: Archive, watch: Watch) -> None:
        """Download an archive and put its images in place."""
        task.path = download(task.remote, task.folder, attempts=self.attempts, watch=watch)
        chosen: dict[Wish, set[str]] = {wish: set() for wish in task.wishes}

        def place(member: PurePosixPath) -> PurePosixPath | None:
            identity = archive.identify(member)
            if identity is None or identity[:2] not in chosen:
                return None
            dataset, kind, image = identity
            chosen[dataset, kind].add(image)
            return PurePosixPath(dataset, f"x{kind}", f"{image}{'' if kind == HR else f'x{kind}'}{member.suffix}")

        shutil.rmtree(task.stage, ignore_errors=True)  # left by a process that was killed
        try:
            archives.extract(task.path, task.stage, place, watch)
            self._check_complete(task, chosen)
            # LR before HR: a dataset is found by its HR folder.
            for dataset, kind in sorted(task.wishes, key=lambda wish: -wish[1]):
                _put_in_place(task.stage / dataset / f"x{kind}", self.place(dataset, kind))
        finally:
            shutil.rmtree(task.stage, ignore_errors=True)
        if not self.keep_archives:
            task.path.unlink(missing_ok=True)

    def _check_complete(self, task: Task, chosen: dict[Wish, set[str]]) -> None:
        """Raise BadArchive where images are missing, UserError where the folder for them has others."""
        for (dataset, kind), names in chosen.items():
            what = f"{'HR' if kind == HR else f'LR x{kind}'} images of {dataset}"
            if len(names) < self.count(dataset):
                raise archives.BadArchive(
                    f"{task.path} holds {len(names)} of the {self.count(dataset)} {what}: it is not the archive "
                    "that it should be, remove it and repeat"
                )
            foreign = sorted(self.present(dataset, kind) - names)
            if foreign:
                raise UserError(
                    f"{self.place(dataset, kind)} holds {what} that {task.remote.name} does not have "
                    f"({', '.join(foreign[:3])}): move that folder away and repeat"
                )


def _images(folder: Path, dataset: str, kind: int) -> set[str]:
    """Return the names of a dataset's images in a folder, without `x4` and suffix."""
    if not folder.is_dir():
        return set()
    ending = "" if kind == HR else f"x{kind}"
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    names = (file.stem.removesuffix(ending) for file in files if file.stem.endswith(ending))
    return {name for name in names if sources.DATASETS[dataset].includes(name)}


def _put_in_place(folder: Path, target: Path) -> None:
    """Move images into their folder: all at once where it does not exist yet, else those that it lacks."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(folder, target)
        return
    files = sorted(folder.iterdir())
    existing = [file for file in files if (target / file.name).exists()]
    for file in existing:
        if not filecmp.cmp(file, target / file.name, shallow=False):
            raise UserError(
                f"{target / file.name} is not the image of the archive (another size or content): move it away"
            )
    for file in files:
        if file not in existing:
            _move(file, target / file.name)


def _move(source: Path, target: Path) -> None:
    """Rename a file or folder; from one file system to another (the target may be behind a link), copy it first."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = target.with_name(f".{target.name}.copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.move(source, copy)
        copy.rename(target)
