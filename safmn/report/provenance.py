"""The keys of `provenance.json`: what the file may hold; `safmn.report.origins` fills it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from safmn.configuration import Section

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = str | None
Time = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\+00:00$")]
Natural = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]


class Code(Section):
    """The program that made a result."""

    code_version: Text
    code_commit: Annotated[str, Field(pattern="^[0-9a-f]{40,64}$")] | None = Field(
        description="null outside of a git checkout."
    )
    code_dirty: bool | None = Field(description="Whether anything differed from that commit.")
    code_sha256: Sha256 | None = Field(
        description="Over names and contents of the Snakefile, workflow/, safmn/ and ablations/."
    )


class Device(Section):
    """The device that a result was computed on."""

    device: Text = Field(description='"cpu", "cuda", or "meta" where only shapes were computed.')
    gpu: Text
    driver: str | float | None
    torch: Text
    cuda: Text
    cudnn: int | None


class Host(Section):
    """The class of the host, not its name."""

    cpu: Text
    cores: Annotated[int, Field(ge=1)] | None
    memory_mib: Natural | None
    os: Text
    python: Text


class Environment(Section):
    """What results have in common."""

    code: Code
    device: Device
    host: Host
    further: dict[str, Any] = Field(description="Threads, flags that change speed or precision, versions.")


class Place(Section):
    """A result: what it is and where its record lies."""

    what: Literal["training", "evaluation", "inspection", "complexity", "memory", "runtime", "operations"]
    file: Annotated[str, Field(pattern="^[^/]")] = Field(description="The record, below results/<study>/.")
    network: Text
    scale: Literal[2, 3, 4] | None


class Result(Place):
    """Where one result comes from."""

    specification: Sha256 | None = Field(description="sha256 of what was asked.")
    data: Mapping[str, Sha256] | None = Field(
        description="Images that it depends on, as asked for -> digest of their manifest."
    )
    seed: Natural | None = Field(description="null where the result depends on no random numbers.")
    started: Time | None = Field(description="UTC.")
    seconds: Seconds | None
    environment: Natural = Field(description="Its place in `environments`.")
    sessions: Annotated[int, Field(ge=1)] = Field(
        description="Processes that it was made in; their environments stand in its record."
    )
    lacks: tuple[str, ...] = Field(
        description="Facts that its record does not hold, since an earlier version wrote it."
    )
    imported: Sha256 | None = Field(
        default=None, description="Seal of the archive that it was imported from; absent where it was made here."
    )


class Missing(Place):
    """A result that the study asks for and that is absent."""

    reason: Annotated[str, Field(min_length=1)]


class Provenance(Section):
    """Where the results of a study come from (results/<study>/provenance.json)."""

    format: Literal[1]
    study: str
    specification: Sha256 = Field(
        description="sha256 of the study with every default filled in, without the folders of whoever ran it."
    )
    started: Time | None = Field(description="When the first result was begun, UTC.")
    seconds: Seconds = Field(description="Spent on all results together.")
    data: Mapping[str, Sha256] = Field(description='Packed dataset ("Set5/x4") -> digest of its manifest.')
    environments: tuple[Environment, ...] = Field(description="Code, device and host that results have in common.")
    results: tuple[Result, ...]
    missing: tuple[Missing, ...]
