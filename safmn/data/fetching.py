"""From a dataset's name to its images under a data root: what is missing, its archives, and each folder put in place.

Archives are kept in `<root>/archives` while they are needed. They are unpacked into a hidden folder there, and a folder
of images appears where `sources.locate` finds it only when all of its images are there: a fetch that is cut off leaves
no half dataset that a training would take for a whole one. Images that are there already are never replaced.
"""

import contextlib
import errno
import filecmp
import queue
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import httpx

from safmn.data import archives, catalogue, download, sources
from safmn.data.catalogue import HR, Archive
from safmn.data.images import SUFFIXES
from safmn.data.meter import Meter
from safmn.data.remote import Corrections, Remote
from safmn.errors import UserError

Wish = tuple[str, int]
"""A dataset and a kind of its images: HR, or LR at a scale."""


@dataclass
class Task:
    """One file to download, and what it is for.

    Attributes:
        remote: the file.
        folder: where it goes.
        archive: the archive that it is, None where it is wanted as it is.
        wishes: what to take out of the archive.
        path: the file, once it is there.
        problem: why it could not be done.
    """

    remote: Remote
    folder: Path
    archive: Archive | None = None
    wishes: list[Wish] = field(default_factory=list)
    path: Path | None = None
    problem: UserError | None = None


@dataclass
class Fetcher:
    """What all tasks share.

    Attributes:
        root: the folder of datasets (and weights).
        corrections: mirror and such.
        patience: with bad connections.
        jobs: downloads at once.
        keep_archives: leave them in `root/archives` after unpacking.
        meter: shows progress.
    """

    root: Path
    corrections: Corrections = field(default_factory=Corrections)
    patience: download.Patience = field(default_factory=download.Patience)
    jobs: int = 4
    keep_archives: bool = False
    meter: Meter = field(default_factory=Meter)
    stop: threading.Event = field(default_factory=threading.Event)

    def missing(self, datasets: Iterable[str], kinds: set[int]) -> list[Wish]:
        """What of these datasets is not at hand, of the kinds that are asked for and published."""
        wishes = []
        for dataset in datasets:
            published = {kind for each in catalogue.ARCHIVES for kind in each.holds.get(dataset, ())}
            for kind in sorted(kinds & published):
                if len(self.present(dataset, kind)) < self.count(dataset):
                    wishes.append((dataset, kind))
        return wishes

    def count(self, dataset: str) -> int:
        """How many images a dataset has."""
        return (self.corrections.images or {}).get(dataset, sources.DATASETS[dataset].images)

    def present(self, dataset: str, kind: int) -> set[str]:
        """Names of the images of a kind that are at hand."""
        return _images(self.place(dataset, kind), dataset, kind)

    def place(self, dataset: str, kind: int) -> Path:
        """The folder of a kind of images: where there are some of the dataset already, else the publishers' layout."""
        hr = self._found(dataset) or self.root / catalogue.FOLDERS[dataset]
        return hr if kind == HR else hr.with_name(hr.name[:-2] + "LR_bicubic") / f"X{kind}"

    def _found(self, dataset: str) -> Path | None:
        """The HR folder to go on with, as `sources.locate` and `pairs` find it; None: begin the publishers' folder.

        Raises:
            UserError: a folder is in the way: found earlier than the publishers', and not to be gone on with.
        """
        try:
            folder = sources.locate(dataset, self.root).folder
        except UserError:
            return None
        hr = next(each for each in (folder / "HR", *sorted(folder.glob("*_HR")), folder) if each.is_dir())
        there = len(_images(hr, dataset, HR))
        if there and hr.name.endswith("HR"):
            return hr
        order = [self.root / each for each in sources.DATASETS[dataset].folders]
        own = self.root / catalogue.FOLDERS[dataset]
        if any(own in (each, each / "HR") for each in order[: order.index(folder) + 1]):
            return None
        raise UserError(
            f"{folder} would hide the downloaded {dataset}, but holds {there} of its images and no folder HR: move "
            "them into a folder HR in it, or move it away"
        )

    def run(
        self, datasets: Iterable[str], kinds: set[int], files: Iterable[Remote] = (), room_for: Iterable[str] = ()
    ) -> list[Task]:
        """Fetches what is missing of datasets (kinds: HR and scales), and files into the root.

        Args:
            room_for: datasets that others fetch into the root meanwhile: their missing part must fit as well.

        Returns:
            The tasks, done and failed: where an archive fails and another one holds the same images, that is tried.

        Raises:
            UserError: not enough space for all of it, found before the first byte; a folder in the way.
            KeyboardInterrupt: what arrived is kept.
        """
        tasks = [Task(self.corrections.apply(remote), self.root) for remote in files]
        tasks += self._tasks(self.missing(datasets, kinds), set())
        if not tasks:
            return []
        self._check_space(tasks, self._others(room_for, kinds))
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make {self.root}: {error.strerror or error}; choose another folder") from error
        done, tried = [], set()
        with self.meter, download.client(self.patience) as connections:
            while tasks:
                _in_parallel([(self._work, task, connections) for task in tasks], self.jobs, self.stop)
                done += tasks
                tried |= {task.remote.name for task in tasks}
                # Another archive may help against a bad source, not against a full disk.
                wishes = [wish for task in tasks if _source_failed(task) for wish in task.wishes]
                tasks = self._tasks(wishes, tried)
                for task in tasks:
                    self.meter.say(f"trying {task.remote.name} from {task.remote.host} instead")
        return done

    def _tasks(self, wishes: list[Wish], tried: set[str]) -> list[Task]:
        """The archives that fulfil the wishes, each once, those tried already left out."""
        tasks: dict[str, Task] = {}
        for dataset in dict.fromkeys(dataset for dataset, _ in wishes):
            kinds = {kind for name, kind in wishes if name == dataset}
            for archive in catalogue.archives_of(dataset, kinds):
                name = archive.remote.name
                helps = kinds & set(archive.holds[dataset])
                if name in tried or not helps:
                    continue
                remote = self.corrections.apply(archive.remote)
                task = tasks.setdefault(name, Task(remote, self.root / "archives", archive))
                task.wishes += [(dataset, kind) for kind in sorted(helps)]
                kinds -= helps
        return list(tasks.values())

    def _others(self, datasets: Iterable[str], kinds: set[int]) -> list[Task]:
        """The tasks that others have with these datasets."""
        wishes = []
        for dataset in datasets:
            with contextlib.suppress(UserError):  # theirs to tell
                wishes += self.missing([dataset], kinds)
        return self._tasks(wishes, set())

    def _check_space(self, tasks: list[Task], others: list[Task]) -> None:
        """For downloads and what is unpacked from them; PNG images take as much room outside an archive as inside."""
        needed: dict[str, int] = {}
        for task in (*tasks, *others):
            remote = task.remote
            needed[remote.name] = 0
            if task.archive is not None:
                if remote.size is None and remote.name not in (self.corrections.files or {}):
                    remote = replace(remote, size=task.archive.about)
                needed[remote.name] = max(0, (remote.size or 0) - _bytes_in(_stage(task)))
            needed[remote.name] += download.remaining(remote, task.folder)
        download.check_space(self.root, sum(needed.values()), ", ".join(needed))

    def _work(self, task: Task, connections: httpx.Client) -> None:
        """One task from beginning to end; a UserError is left in it."""
        watch = self.meter.watch(task.remote.name)
        try:
            if task.archive is None:
                task.path = self._download(task, connections, watch)
            else:
                task.folder.mkdir(parents=True, exist_ok=True)
                with download.alone(task.folder / f"{task.remote.name}.unpacking", watch, self.stop):
                    self._unpack(task, connections, watch)
        except UserError as error:
            task.problem = error
        except OSError as error:
            where = error.filename or self.root
            task.problem = UserError(f"cannot write {where}: {error.strerror or error}; choose another folder")

    def _download(self, task: Task, connections: httpx.Client, watch: download.Watch) -> Path:
        return download.download(
            task.remote,
            task.folder,
            connections=connections,
            patience=self.patience,
            watch=watch,
            stop=self.stop,
        )

    def _unpack(self, task: Task, connections: httpx.Client, watch: download.Watch) -> None:
        """Downloads an archive and puts its images in place."""
        # Another process may have done it in the meantime.
        task.wishes = [(name, kind) for name, kind in task.wishes if self.missing([name], {kind})]
        if not task.wishes:
            return
        task.path = self._download(task, connections, watch)
        stage = _stage(task)
        chosen: dict[Wish, set[str]] = {wish: set() for wish in task.wishes}

        def place(member: PurePosixPath) -> PurePosixPath | None:
            found = task.archive.identify(member)
            if found is None or found[:2] not in chosen:
                return None
            dataset, kind, image = found
            chosen[dataset, kind].add(image)
            return PurePosixPath(dataset, f"x{kind}", f"{image}{'' if kind == HR else f'x{kind}'}{member.suffix}")

        files = archives.extract(task.path, stage, place, watch=watch, stop=self.stop)
        self._check_complete(task, chosen)
        # LR before HR: a dataset is found by its HR folder.
        for dataset, kind in sorted(task.wishes, key=lambda wish: -wish[1]):
            folder = stage / dataset / f"x{kind}"
            names = {file.name for file in files if file.parent == PurePosixPath(dataset, f"x{kind}")}
            _put_in_place(folder, names, self.place(dataset, kind))
        shutil.rmtree(stage, ignore_errors=True)
        if not self.keep_archives:
            task.path.unlink(missing_ok=True)

    def _check_complete(self, task: Task, chosen: dict[Wish, set[str]]) -> None:
        for (dataset, kind), names in chosen.items():
            what = f"{_kind(kind)} images of {dataset}"
            if len(names) < self.count(dataset):
                raise archives.BadArchive(
                    f"{task.path} holds {len(names)} of the {self.count(dataset)} {what}: it is not the archive "
                    "that it should be, remove it and repeat"
                )
            strange = sorted(self.present(dataset, kind) - names)
            if strange:
                raise UserError(
                    f"{self.place(dataset, kind)} holds {what} that {task.remote.name} does not have "
                    f"({', '.join(strange[:3])}): move that folder away and repeat"
                )


def _stage(task: Task) -> Path:
    """The hidden folder that an archive is unpacked into."""
    return task.folder / f".{task.remote.name}.unpacked"


def _bytes_in(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # put in place meanwhile, by another process
            total += file.stat().st_size
    return total


def _kind(kind: int) -> str:
    return "HR" if kind == HR else f"LR x{kind}"


def _images(folder: Path, dataset: str, kind: int) -> set[str]:
    """Names of the images of a dataset in a folder, without `x4` and suffix."""
    ending = "" if kind == HR else f"x{kind}"
    numbers = sources.DATASETS[dataset].numbers
    names = set()
    if folder.is_dir():
        for file in folder.iterdir():
            if file.suffix.lower() in SUFFIXES and file.stem.endswith(ending) and not file.name.startswith("."):
                name = file.stem.removesuffix(ending)
                if numbers and name.isascii() and name.isdigit() and not numbers[0] <= int(name) <= numbers[1]:
                    continue  # DIV2K's validation images may lie with its training images
                names.add(name)
    return names


def _source_failed(task: Task) -> bool:
    return isinstance(task.problem, download.Unavailable | archives.BadArchive)


def _put_in_place(folder: Path, names: set[str], target: Path) -> None:
    """Moves images into their folder: in one step where it is not there yet, else those that it lacks."""
    for file in folder.iterdir():
        if file.name not in names:
            file.unlink()  # left by an extraction that was killed
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _move(folder, target)
        return
    there = {name for name in names if (target / name).exists()}
    for name in sorted(there):
        if not filecmp.cmp(folder / name, target / name, shallow=False):
            raise UserError(f"{target / name} is not the image of the archive (another size or content): move it away")
    for name in sorted(names - there):
        _move(folder / name, target / name)


def _move(source: Path, target: Path) -> None:
    """Renames a file or folder; across file systems (a dataset's folder may be a link to another disk) copies it."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = target.with_name(f".{target.name}.copy")
        if source.is_dir():
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source, copy)
        else:
            shutil.copyfile(source, copy)
        copy.rename(target)


def _in_parallel(calls: list[tuple[Callable, ...]], jobs: int, stop: threading.Event) -> None:
    """Runs (function, *arguments) in `jobs` threads; an unforeseen exception of one stops the others and is raised."""
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for call in calls:
        waiting.put(call)
    raised: list[BaseException] = []

    def worker() -> None:
        while not stop.is_set():
            try:
                function, *arguments = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                function(*arguments)
            except BaseException as error:
                raised.append(error)
                stop.set()

    # Daemons, since a thread that waits for a silent server must not keep an interrupted program alive.
    threads = [threading.Thread(target=worker, daemon=True) for _ in range(min(jobs, len(calls)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(timeout=0.2)
    except KeyboardInterrupt:
        stop.set()
        for thread in threads:
            thread.join(timeout=1)
        raise
    if raised:
        raise raised[0]
