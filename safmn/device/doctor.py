"""What `safmn doctor` finds out about a machine: Python, packages, torch, driver, GPUs, leases, disk, SLURM.

Everything is read from outside of torch first (`nvidia-smi`, the environment, the file system); what torch can do is
tried in a process of its own (`safmn.device.probe`).
"""

import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from safmn import paths
from safmn.device import host, lease, probe
from safmn.errors import UserError
from safmn.files import free_bytes

Level = Literal["ok", "warning", "error"]
DISTRIBUTION = "safmn-harness"
DRIVERS = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
"""Major version of CUDA -> the oldest driver for Linux that runs it (NVIDIA's CUDA compatibility guide)."""
TRIED = ((2, 6), (2, 13))
"""Versions of torch, first and last, that this project was made for."""
FEW_BYTES = 5 * 10**9  # free on a disk: less is soon full of saved states and packed images
FULL = 0.5  # share of a GPU's memory in use by others, above which a training step of the paper may not fit
CARD = ("index", "uuid", "name", "memory.total", "memory.used", "compute_mode", "mig.mode.current", "driver_version")


@dataclass(frozen=True)
class Finding:
    """One line of the page.

    Attributes:
        part: what it is about, a word or two.
        level: "ok", "warning" (something is slower, missing or left out) or "error" (something fails).
        says: what was found.
        todo: what to do about it; "" if nothing.
    """

    part: str
    level: Level
    says: str
    todo: str = ""

    def record(self) -> dict[str, str]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Card:
    """A GPU as `nvidia-smi` describes it; memory in MiB, None where it does not say."""

    index: str
    uuid: str
    name: str
    total: float | None
    used: float | None
    mode: str
    mig: bool
    driver: str


def machine(results: Path) -> list[Finding]:
    """Examine this machine; `results` is the folder below which results are written."""
    works, answer = lease.nvidia_smi(f"--query-gpu={','.join(CARD)}", "--format=csv,noheader,nounits")
    found = cards(answer) if works else []
    devices = lease.visible_devices()
    findings = [*python(), *packages(), *driver(works, answer, found), *gpus(found), *visible(list(devices))]
    holders: dict[str, list[str]] = {}
    try:
        holders = {name: lease.holders(card) for name, card in devices.items()}
        findings += leases(holders)
    except UserError as error:
        says, _, todo = str(error).rpartition(": ")
        findings.append(Finding("leases", "error", says, todo))
    alone = [name for name, jobs in holders.items() if any(job.startswith("alone") for job in jobs)]
    return [*findings, *torch(found, list(devices), alone), *disk(results), *slurm(), *programs()]


# --- Python and packages ---------------------------------------------------------------------------------------------


def python() -> Iterator[Finding]:
    """Say which Python, system and processor there are."""
    about = host.describe()
    says = f"{about['python']} on {about['os']}, {about['cpu']}, {about['cores']} cores, {about['memory_mib']:,} MiB"
    yield Finding("Python", "ok", says)  # an older one ends before this: pyproject.toml asks for 3.11


def packages() -> Iterator[Finding]:
    """Compare the installed packages with what pyproject.toml asks for."""
    required, extras = [], []
    for line in _requirements():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required.append(requirement)
        elif any(requirement.marker.evaluate({"extra": extra}) for extra in ("archive", "slurm")):
            extras.append(requirement)
    lacking = {str(each.name): _lack(each.name, each.specifier) for each in (*required, *extras)}
    missing = [lacking[each.name] for each in required if lacking[each.name]]
    if missing:
        yield Finding(
            "packages",
            "error",
            ", ".join(missing),
            "pip install -e . -c constraints.txt; without a network: make offline-install WHEELHOUSE=...",
        )
    else:
        yield Finding("packages", "ok", f"all {len(required)} that are required")
    optional = [each.name for each in extras if lacking[each.name]]
    if optional:
        yield Finding(
            "packages", "warning", f"not there: {', '.join(optional)}", "needed for `safmn archive` and for SLURM only"
        )


def _requirements() -> list[str]:
    """Return the requirements of this project, those of extras with a marker."""
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        with open(paths.ROOT / "pyproject.toml", "rb") as file:
            project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"].items()
    optional = [f"{line}; extra == '{extra}'" for extra, lines in extras for line in lines]
    return [*project["dependencies"], *optional]


def _lack(name: str, specifier: Any) -> str:
    """Return why an installed package does not do; "" if it does."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is missing"
    return "" if specifier.contains(version, prereleases=True) else f"{name} {version} is too old ({specifier})"


# --- Driver and GPUs -------------------------------------------------------------------------------------------------


def cards(answer: str) -> list[Card]:
    """Read the answer of `nvidia-smi` to a query of CARD."""
    found = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == len(CARD):
            index, uuid, name, total, used, mode, mig, version = fields
            found.append(Card(index, uuid, name, _number(total), _number(used), mode, mig == "Enabled", version))
    return found


def driver(works: bool, answer: str, found: list[Card]) -> Iterator[Finding]:
    """Say whether there is a driver that answers."""
    files = [file for file in lease.DRIVERS if Path(file).exists()]
    if found:
        yield Finding("driver", "ok", f"{found[0].driver}, {len(found)} GPU{'s' * (len(found) > 1)}")
    elif "version mismatch" in answer:
        yield Finding(
            "driver",
            "error",
            "its parts have different versions, so no program can use the GPU",
            "reboot, or load the new kernel module",
        )
    elif works:
        yield Finding("driver", "warning", "there is a driver, and no GPU", "computed is on the CPU")
    elif files:
        first = (answer.strip().splitlines() or ["nvidia-smi is missing"])[0]
        yield Finding(
            "driver",
            "warning",
            f"{files[0]} is there, but nvidia-smi does not answer ({first})",
            "check the driver; in a container, start it with the GPU (--nv, --gpus all)",
        )
    else:
        yield Finding("driver", "ok", "none: this machine computes on its CPU")


def gpus(found: list[Card]) -> Iterator[Finding]:
    """Describe each GPU: memory, other programs, exclusive mode, MIG."""
    for card in found:
        name = f"GPU {card.index}"
        says = card.name + (f", {card.total:,.0f} MiB" if card.total else "")
        used = (card.used or 0) / card.total if card.total else 0.0
        if "prohibited" in card.mode.lower():
            todo = f"ask the administrator, or nvidia-smi -i {card.index} -c DEFAULT"
            yield Finding(name, "error", f"{says}: no program may compute on it (compute mode Prohibited)", todo)
        elif card.mig:
            slices = _slices(card.uuid)
            if slices:
                todo = f"CUDA_VISIBLE_DEVICES={','.join(slices)}; unset, every job uses the first part"
                yield Finding(name, "warning", f"{says}: divided by MIG into {len(slices)} parts", todo)
            else:
                todo = "ask the administrator for a part: nvidia-smi mig -cgi ... -C"
                yield Finding(name, "error", f"{says}: MIG is on, and there is no part to compute on", todo)
        elif "exclusive" in card.mode.lower():
            todo = "leave run.jobs_per_device at 1"
            yield Finding(name, "warning", f"{says}: one program at a time (compute mode {card.mode})", todo)
        elif used > FULL:
            todo = "wait for the other programs, or choose another GPU with CUDA_VISIBLE_DEVICES"
            yield Finding(name, "warning", f"{says}, {card.used:,.0f} MiB of them in use by other programs", todo)
        else:
            yield Finding(name, "ok", f"{says}, {card.used or 0:,.0f} MiB in use")


def _slices(uuid: str) -> list[str]:
    """Return the names of the parts into which MIG divides a card."""
    _, answer = lease.nvidia_smi("-L")
    parts: list[str] = []
    inside = False
    for line in answer.splitlines():
        if line.startswith("GPU "):
            inside = uuid in line
        elif inside and (part := re.search(r"UUID: (MIG-[\w/-]+)", line)):
            parts.append(part[1])
    return parts


def visible(chosen: list[str]) -> Iterator[Finding]:
    """Say what `CUDA_VISIBLE_DEVICES` leaves: the devices `chosen`."""
    preset = os.environ.get(lease.VISIBLE)
    if preset is None:
        return
    names = [name.strip() for name in preset.split(",")]
    says = f"{preset!r}"
    if len(chosen) == len(names):
        yield Finding(lease.VISIBLE, "ok", f"{says}: {len(chosen)} GPU{'s' * (len(chosen) > 1)}")
    elif preset.strip() in ("", "-1"):
        yield Finding(lease.VISIBLE, "ok", f"{says}: GPUs are hidden, jobs run on the CPU")
    else:
        wrong = names[len(chosen)]
        left = f"only {len(chosen)} of {len(names)} count" if chosen else "jobs run on the CPU"
        todo = "give indices or UUIDs of `nvidia-smi -L`, or unset it"
        yield Finding(lease.VISIBLE, "warning", f"{says}: {wrong!r} is no GPU here, so {left}", todo)


def leases(holders: dict[str, list[str]]) -> Iterator[Finding]:
    """Say which jobs hold leases on the visible GPUs."""
    place = lease.folder()
    for name, jobs in holders.items():
        if jobs:
            yield Finding("leases", "ok", f"{name}: {'; '.join(jobs)}", "a job that needs it waits for them")
        else:
            yield Finding("leases", "ok", f"{name}: free (locks in {place})")


def torch(found: list[Card], devices: list[str], alone: list[str]) -> Iterator[Finding]:
    """Say which torch there is, and whether it can compute on each device but those that a job has alone."""
    names: list[str | None] = [name for name in devices if name not in alone]
    results: dict[str | None, dict[str, Any]] = {name: probe.ask(name) for name in names or [None]}
    first = next(iter(results.values()))
    if "torch" not in first:
        todo = "install torch, see README; the message says what is missing"
        yield Finding("torch", "error", f"cannot be used: {first['error']}", todo)
        return
    version, built = first["torch"], first["built"]
    computes = any(result.get("kind") == "cuda" and result.get("convolution") == "" for result in results.values())
    yield from _version(version, built, found, computes)
    for name, result in results.items():
        yield from _use(name, result, version)
    for each in alone:
        yield Finding("compute", "ok", f"{each}: not tried, since a job has it alone and may be timing")


def _version(version: str, built: str, found: list[Card], computes: bool) -> Iterator[Finding]:
    """Compare torch with the driver; `computes` says whether it could be used on a GPU all the same."""
    says = f"{version}, {f'built for CUDA {built}' if built else 'a build for CPUs'}"
    major_minor = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    needed = DRIVERS.get(int(built.partition(".")[0] or 0)) if re.match(r"\d", built) else None
    installed = tuple(int(part) for part in re.findall(r"\d+", found[0].driver)[:2]) if found else ()
    if found and not built:
        todo = "install a CUDA build of torch, or hide the GPU: CUDA_VISIBLE_DEVICES="
        yield Finding("torch", "error", f"{says}, beside a GPU", todo)
    elif installed and needed and installed < needed:
        oldest = ".".join(map(str, needed))
        says += f", which driver {found[0].driver} is too old for"
        if computes:  # on data centre GPUs NVIDIA's package cuda-compat takes the place of a part of the driver
            says += " by itself; it computes, by CUDA's forward compatibility"
            yield Finding("torch", "warning", says, f"if a job fails there, update the driver to {oldest} or newer")
            return
        todo = f"update the driver to {oldest} or newer, or install a torch for an older CUDA"
        yield Finding("torch", "error", says, todo)
    elif not TRIED[0] <= major_minor <= TRIED[1]:
        first, last = (".".join(map(str, each)) for each in TRIED)
        yield Finding("torch", "warning", f"{says}", f"this project was made for {first} to {last}: run make test")
    else:
        yield Finding("torch", "ok", says)


def _use(name: str | None, result: dict[str, Any], version: str) -> Iterator[Finding]:
    """Say whether torch can compute on a device."""
    where = name or "the CPU"
    notes = f" ({'; '.join(result['notes'])})" if result.get("notes") else ""
    if "error" in result:
        yield Finding("compute", "error", f"{where}: {result['error']}", "look at nvidia-smi and dmesg; try again")
    elif name and result["kind"] != "cuda":
        todo = "install a torch built for this driver, or compute on the CPU: CUDA_VISIBLE_DEVICES="
        yield Finding("compute", "error", f"{where}: torch {version} cannot use it{notes}", todo)
    elif result["convolution"]:
        reason = result["convolution"].lower()
        todo = "another torch, or another driver"
        if "busy" in reason:  # of a GPU in exclusive mode
            todo = "wait for the program that `nvidia-smi` names, or choose another GPU"
        elif "memory" in reason:
            todo = "free its memory, or choose another GPU"
        yield Finding("compute", "error", f"{where}: {result['convolution']}{notes}", todo)
    elif result.get("graph"):
        todo = "leave run.cuda_graph at false"
        yield Finding("compute", "warning", f"{where}: convolution ok; no CUDA graph ({result['graph']})", todo)
    elif name:
        free, total = (result.get(key, 0) // 2**20 for key in ("free", "total"))
        says = f"{where}: convolution and CUDA graph ok, {free:,} of {total:,} MiB free"
        yield Finding("compute", "warning" if notes else "ok", says + notes, "read torch's note" if notes else "")
    else:
        yield Finding("compute", "ok", f"{where}: convolution ok")


# --- Disk, SLURM, programs -------------------------------------------------------------------------------------------


def disk(results: Path) -> Iterator[Finding]:
    """Say whether results can be written, and how many bytes are free for them."""
    existing = next(place for place in (results.absolute(), *results.absolute().parents) if place.exists())
    free = free_bytes(results)
    says = f"{free / 1e9:,.1f} GB free for {results}"
    if not os.access(existing, os.W_OK):
        yield Finding("disk", "error", f"{existing} cannot be written", "work in a folder of your own")
    elif free < FEW_BYTES:
        yield Finding("disk", "warning", says, "free some; `safmn plan STUDY` says what a study writes")
    else:
        yield Finding("disk", "ok", says)


def slurm() -> Iterator[Finding]:
    """Say whether this is a SLURM job, or a machine from which jobs are submitted."""
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        gpus = os.environ.get("SLURM_JOB_GPUS") or os.environ.get("SLURM_STEP_GPUS") or "none named"
        yield Finding("SLURM", "ok", f"this is job {job}, GPUs: {gpus}")
    elif shutil.which("sbatch"):
        plugin = "snakemake-executor-plugin-slurm"
        if _lack(plugin, SpecifierSet()):
            todo = "pip install -e '.[slurm]'"
            yield Finding("SLURM", "warning", f"sbatch is there, but not {plugin}", todo)
        else:
            yield Finding("SLURM", "ok", "sbatch is there: snakemake --workflow-profile profiles/slurm")
    else:
        yield Finding("SLURM", "ok", "none here")


def programs() -> Iterator[Finding]:
    """Say which programs are missing that some commands call."""
    uses = {"git": "the commit is not recorded in results", "curl": "nothing can be downloaded"}
    uses["cc"] = "torch.compile does not work"
    missing = [f"{program} ({use})" for program, use in uses.items() if not shutil.which(program)]
    if missing:
        yield Finding("programs", "warning", f"not there: {', '.join(missing)}", "install them if you need that")
    else:
        yield Finding("programs", "ok", ", ".join(uses))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
