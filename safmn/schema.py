"""The keys of studies and of variants: type, bounds, default and meaning of each, written once.

`config/README.md` and the JSON schemas of `workflow/schemas/` are generated from here by `scripts/reference`.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetPydanticSchema,
    Tag,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from safmn.configuration import Section, as_plain

MAX_THREADS = 1024  # OpenMP accepts any number and then crashes

PAPER: dict[str, Any] = {
    "loss": "paper",
    "optimiser": {"name": "adam"},
    "schedule": {"name": "cosine"},
    "warm_up": 0,
    "gradient_clip": None,
    "weight_decay": None,
    "augment": ["flip", "rotate"],
}
"""The keys of `training` that a specification leaves out where they are the paper's, as here.

So studies that were made before these keys existed keep their fingerprints.
"""


def _unless_default(default: Any, **more: Any) -> Any:
    """Return the field of a key that plain data holds only where it is not the default.

    So studies that were made before the key existed keep their fingerprints.
    """
    return Field(default, **{"exclude_if": lambda value: value == default, **more})


def partial(model: type[Section], *keys: str) -> GetPydanticSchema:
    """Return the annotation of a dictionary with some keys of a section, each optional, with its type and bounds."""
    fields: dict[str, Any] = {
        name: (
            Annotated[
                field.annotation,
                Field(description=field.description, json_schema_extra=lambda schema: schema.pop("default")),
                *field.metadata,
            ],
            None,
        )
        for name, field in ((field.alias or name, field) for name, field in model.model_fields.items())
        if name in keys or not keys
    }
    part = create_model(f"Changed{model.__name__}", __base__=Section, **fields)

    def as_dictionary(_: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            lambda changes: as_plain(changes, only_given=True),
            handler(part),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )

    return GetPydanticSchema(as_dictionary)


def _home_expanded(folder: str) -> str:
    try:
        return str(Path(folder).expanduser()) if folder.startswith("~") else folder
    except RuntimeError as error:  # no such user
        raise ValueError(f"{folder!r}: {error}") from error


def _readable_by_snakemake(folder: str) -> str:
    # Snakemake reads braces as wildcards.
    if not folder.strip() or not folder.isprintable() or set(folder) & set("{}"):
        raise ValueError(f"{folder!r} cannot be used: choose another folder")
    return folder


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"lists {repeated[0]!r} twice")
    return values


_DISTINCT = (AfterValidator(_distinct), Field(json_schema_extra={"uniqueItems": True}))

Scale = Literal[2, 3, 4]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], *_DISTINCT]
Names = Literal["all"] | Annotated[tuple[str, ...], *_DISTINCT]
Folder = Annotated[str, AfterValidator(_home_expanded)]
Download = Annotated[Folder, AfterValidator(_readable_by_snakemake)]
Count = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Data(Section):
    """The section `data` of a study."""

    root: Folder | None = Field(
        None, description="The folder that holds the datasets. They are used in place; nothing is written there."
    )
    folders: Mapping[str, Folder] = Field(
        {}, description="Where a dataset lies if it is not under the root: name -> folder."
    )
    download: Download | None = Field(
        None,
        description="The folder into which datasets are downloaded that lie neither under the root nor in `folders`; "
        "null downloads nothing.",
    )
    border: Literal["symmetric", "clamped"] = Field(
        "symmetric",
        description='How HR is extended beyond its edge where LR is made from it: mirrored ("symmetric", as MATLAB '
        'does), or with its edge repeated ("clamped").',
    )
    train: tuple[str, ...] = Field(
        (), description='Datasets, or slices of them such as "BSDS200[10:]" (images sorted by name).'
    )
    validation: tuple[str, ...] = Field(
        (), description="Images that choose the best weights; none of them may be trained on."
    )
    test: tuple[str, ...] = Field(description="Images on which PSNR-Y and SSIM-Y are measured.")


class Weights(Section):
    """The section `weights` of a study."""

    root: Folder | None = Field(
        None, description="The folder that holds the authors' files, or where `safmn fetch` puts them."
    )
    download: Download | None = Field(
        None,
        description="The folder into which published weights are downloaded that are not under the root; null "
        "downloads none.",
    )


CLASS = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""A class of a user's own, "module:Class"."""


def _one_of(*names: str, or_class: bool = False) -> AfterValidator:
    choices = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))

    def check(text: str) -> str:
        is_class = or_class and re.fullmatch(CLASS, text)
        if text not in names and not is_class:
            own = ", or a class of your own, 'module:Class'" if or_class else ""
            raise ValueError(f"{text!r} is not known: take {choices}{own}")
        return text

    return AfterValidator(check)


def _named(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        return value
    return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}  # strict, no more JSON


def _name_of(value: Any) -> str:
    return str(value.get("name", "")) if isinstance(value, dict) else str(getattr(value, "name", ""))


class AdamOptimiser(Section):
    """Adam, or AdamW, whose weight decay is decoupled from the gradient."""

    name: Literal["adam", "adamw"]
    betas: tuple[Beta, Beta] | None = _unless_default(None)
    eps: float | None = _unless_default(None, gt=0)
    weight_decay: float | None = _unless_default(None, ge=0)
    amsgrad: bool | None = _unless_default(None)


class SgdOptimiser(Section):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    momentum: float | None = _unless_default(None, ge=0, lt=1)
    dampening: float | None = _unless_default(None, ge=0)
    weight_decay: float | None = _unless_default(None, ge=0)
    nesterov: bool | None = _unless_default(None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("nesterov needs a momentum above 0, and no dampening")
        return self


Argument = bool | int | float | str | None


class OwnOptimiser(Section):
    """An optimiser of a user's own; other keys than its name are arguments of the class."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Argument | tuple[Argument, ...]]

    name: Annotated[str, _one_of("adam", "adamw", "sgd", or_class=True)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "lr" in self.__pydantic_extra__:
            raise ValueError("lr is training.learning_rate, and follows training.schedule: give it there")
        return self


class Schedule(Section):
    """The course of the learning rate, by a name alone."""

    name: Annotated[
        str,
        _one_of("cosine", "constant", "multistep"),
        Field(json_schema_extra={"enum": ["cosine", "constant"]}),
    ]


class Multistep(Section):
    """A learning rate that drops at some iterations."""

    name: Literal["multistep"]
    milestones: Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
        description="Iterations done before each drop, in order."
    )
    gamma: float = Field(0.5, gt=0, le=1, description="Factor of each drop.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} do not rise: give them in order, each once")
        return self


def _kind_of_optimiser(value: Any) -> str:
    name = _name_of(value)
    return "adam" if name in ("adam", "adamw") else "sgd" if name == "sgd" else "own"


def _kind_of_schedule(value: Any) -> str:
    return "multistep" if _name_of(value) == "multistep" else "named"


Optimiser = (
    Annotated[AdamOptimiser, Tag("adam")] | Annotated[SgdOptimiser, Tag("sgd")] | Annotated[OwnOptimiser, Tag("own")]
)
Course = Annotated[Schedule, Tag("named")] | Annotated[Multistep, Tag("multistep")]


class Training(Section):
    """The section `training` of a study."""

    iterations: Count = Field(description="Training steps of a run; the paper's 500,000.")
    batch: Count = Field(description="Patches an iteration; the paper's 64.")
    patch: Annotated[int, Field(ge=8)] = Field(description="Side of an LR patch in pixels; the paper's 64.")
    small_images: Literal["refuse", "skip", "mirror"] = Field(
        "refuse",
        description='"refuse" a training image smaller than a patch, "skip" it, or "mirror" it up to the size of a '
        "patch.",
    )
    draw: Literal["area", "subimages"] = Field(
        "area",
        description='"area": every position of every image is equally likely; "subimages": as the authors draw, from '
        "overlapping sub-images of 480 HR pixels in a shuffled order.",
    )
    augment: Annotated[tuple[Literal["flip", "rotate"], ...], *_DISTINCT] = _unless_default(
        tuple(PAPER["augment"]),
        exclude_if=lambda value: set(value) == set(PAPER["augment"]),
        description='How patches are changed at random: "flip" (rows, columns or both reversed), "rotate" (by 0, 90, '
        "180 or 270 degrees); both together are the eight symmetries of the square; an empty list changes nothing.",
    )
    learning_rate: float = Field(
        0.001, gt=0, description="Highest learning rate: that of the first iteration, or after the warm-up."
    )
    minimum_learning_rate: float = Field(
        0.00001, ge=0, description="Learning rate that cosine annealing ends at; other schedules do not use it."
    )
    schedule: Annotated[
        Course, Discriminator(_kind_of_schedule), BeforeValidator(_named, json_schema_input_type=str | Course)
    ] = _unless_default(
        Schedule(**PAPER["schedule"]),
        description='Course of the learning rate: "cosine" annealing, "constant", or `{name: multistep, milestones: '
        "[250, 400], gamma: 0.5}`, which multiplies it by gamma at each of these iterations.",
    )
    warm_up: int = _unless_default(
        PAPER["warm_up"],
        ge=0,
        description="Iterations in which the learning rate rises evenly to its highest; cosine annealing follows over "
        "the remaining ones.",
    )
    optimiser: Annotated[
        Optimiser, Discriminator(_kind_of_optimiser), BeforeValidator(_named, json_schema_input_type=str | Optimiser)
    ] = _unless_default(
        AdamOptimiser(**PAPER["optimiser"]),
        description="`{name: NAME, ...}` with its arguments: adam and adamw (betas, eps, weight_decay, amsgrad), sgd "
        "(momentum, dampening, weight_decay, nesterov), or a class of your own, built as `Class(parameters, lr=..., "
        "...)`.",
    )
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.99), description="Decay rates of the two moments of adam and adamw; other optimisers do not use them."
    )
    weight_decay: float | None = _unless_default(
        PAPER["weight_decay"],
        ge=0,
        description="Weight decay of the optimiser; null is its own default: 0, and 0.01 for adamw.",
    )
    gradient_clip: float | None = _unless_default(
        PAPER["gradient_clip"],
        gt=0,
        description="Highest Euclidean norm of all gradients: larger ones are scaled down to it; null scales none.",
    )
    loss: Annotated[str, _one_of(PAPER["loss"], or_class=True)] = _unless_default(
        PAPER["loss"],
        description='"paper" is L1 plus the weighted frequency term; or a class of your own, `module:Class`, in place '
        "of both.",
    )
    fft_weight: float = Field(
        0.05, ge=0, description="Weight of the frequency term beside L1; a loss of your own does not use it."
    )
    ema: float = Field(
        0.999, ge=0, lt=1, description="Decay of the averaged weights (EMA), which are what is evaluated."
    )
    ema_buffers: Literal["track", "frozen"] = Field(
        "track",
        description='"track" copies running statistics into the average; "frozen" leaves them at their initial values, '
        "as the reference trainer does.",
    )
    precision: Literal["float32", "tf32", "bf16"] = Field(
        "float32", description="float32, tf32 (convolutions and products, CUDA only) or bf16 (autocast)."
    )
    form: Literal["usual", "contiguous", "written", "channels_last", "compiled"] = _unless_default(
        "usual",
        description="By which kernels the network computes, equal to rounding: `safmn gpu-check` says which is fastest "
        'on a GPU. "contiguous" copies what LayerNorm returns, "written" computes LayerNorm step by step, '
        '"channels_last" keeps that layout throughout, "compiled" takes torch.compile.',
    )
    validate_every: Count = Field(
        description="Iterations between validations, which choose the best weights; the authors' 5,000."
    )
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] = Field(
        1, description="CPU threads of one run; part of the specification, since it changes the order of sums."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.schedule.name == "cosine" and self.minimum_learning_rate > self.learning_rate:
            raise ValueError(
                f"minimum_learning_rate ({self.minimum_learning_rate:g}) is above learning_rate "
                f"({self.learning_rate:g}): lower it"
            )
        if self.validate_every > self.iterations:
            raise ValueError(
                f"validate_every ({self.validate_every}) is above iterations ({self.iterations}), so no best weights "
                "are chosen: lower it"
            )
        arguments = as_plain(self.optimiser)
        for key in ("betas", "weight_decay"):
            default, here, there = Training.model_fields[key].default, getattr(self, key), arguments.get(key)
            here = list(here) if isinstance(here, tuple) else here
            if there is not None and here not in (there, default if default is None else list(default)):
                raise ValueError(
                    f"{key} is given twice: {here} here and {there} as an argument of the optimiser: give it once"
                )
        return self


class RunSettings(Section):
    """The section `run` of a study."""

    save_every: float = Field(60, ge=0, description="Seconds between saved states.")
    log_every: Count = Field(100, description="Iterations between lines of the history.")
    cuda_graph: bool = Field(
        False,
        description="Whether a GPU runs an iteration as one recorded CUDA graph; ignored on a CPU. Never "
        "run on a GPU so far.",
    )
    jobs_per_device: Annotated[int, Field(ge=1, le=16)] = Field(1, description="Training jobs that share one GPU.")


class Efficiency(Section):
    """The section `efficiency` of a study."""

    images: Count = Field(50, description="Images on which a network is timed; the paper's 50.")
    modes: Annotated[str, Field(pattern="^[a-z_]+(,[a-z_]+)*$")] = Field(
        "eager", description='Ways of running a network that are timed, each checked for equal output first; or "all".'
    )
    rounds: Count = Field(5, description="Rounds in which the networks take turns, so that a drifting clock hits all.")
    processes: Count = Field(3, description="Repetitions in fresh processes, for the spread between runs.")
    cpu: bool = _unless_default(
        True,
        description="Whether Tables 2 and 5 are timed where there is no GPU; such times are never comparable with the "
        "paper's.",
    )

    @property
    def reason_untimed(self) -> str:
        """Why times are missing that were not measured on a GPU; "" where a CPU is timed instead."""
        return "" if self.cpu else "this study times networks on a GPU only (efficiency.cpu is false)"


class Scene(Section):
    """One entry of `figures.scenes`."""

    test: str = Field(description="A dataset of `data.test`.")
    image: Annotated[str, Field(pattern="^[^-]")] = Field(description="The name of one of its images.")
    at: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | None = _unless_default(
        None,
        description="Left and top of the square in HR pixels; null takes the place where LR has most texture.",
    )


class Figures(Section):
    """The section `figures` of a study."""

    networks: Names = Field(
        "all", description='Networks that are shown, by name; "all" takes every one of the study that has weights.'
    )
    scale: Scale | None = Field(
        None, description="Upscaling factor; null takes x4 if the study has it, else the first."
    )
    scenes: tuple[Scene, ...] = Field(
        (),
        description="Images of test sets, such as `{test: Set14, image: barbara, at: [400, 200]}`, `at` being the "
        "corner of a square in HR pixels; by default the first image of the first three, where LR has most texture.",
    )
    crop: Annotated[int, Field(ge=24)] = Field(96, description="Side of the square in HR pixels.")
    window: Annotated[int, Field(ge=2, le=24)] = Field(
        16, description="Side of the SR window in its middle whose texture Figure 2 explains."
    )
    patch: Annotated[int, Field(ge=8)] = Field(
        64, description="Side of the LR image around it that the networks see in Figure 2."
    )
    sigma: Annotated[float, Field(gt=0, le=16)] = Field(
        1.2, description="Blur at the start of Figure 2's path, in LR pixels."
    )
    steps: Count = Field(24, description="Pieces of Figure 2's path.")
    block: Annotated[int, Field(ge=0)] = Field(
        0, description="The block whose SAFM Figure 5 looks into, counted from 1; 0 is the last."
    )


class OwnTable(Section):
    """One table of `own_tables`, for a paper of one's own."""

    title: str = Field("", description="Its caption; empty takes the study's description.")
    rows: Annotated[tuple[str, ...], Field(min_length=1), *_DISTINCT] = Field(
        description="Networks of the study, by name, in the table's order; one that is trained here again is called "
        "`imdn_retrained`."
    )
    columns: Annotated[tuple[str, ...], Field(min_length=1), *_DISTINCT] = Field(
        description="Any column of `networks.csv`: `params` (K), `flops` (G), `activations` (M), `convolutions`, "
        "`predicted_memory` and `measured_memory` (MiB), `time` (median, ms), `weights`, `seeds` and so on, and "
        "`<dataset>_psnr`, `_ssim`, `_psnr_rgb`, `_ssim_rgb` and `_lpips` of each test set. Also `gpu_memory` "
        "(measured, else predicted), `runtime` (mean, ms) and `training_hours`. `published_` before a name takes the "
        "paper's value, `difference_` the difference of a test set's figure to the row that `significance` names.",
    )
    scale: Scale | None = Field(
        None, description="Upscaling factor; null takes x4 if the study has it, else the first."
    )
    sort: str = Field(
        "", description="A column to sort the rows by, the smallest first; with `-` before it the largest."
    )
    decimals: Mapping[str, Annotated[int, Field(ge=0, le=9)]] = Field(
        {}, description="Column, or its figure (`psnr`) -> decimals that are shown."
    )
    mark: Literal["none", "best", "both"] = Field(
        "both", description='Whether the "best" of each column is bold, and in "both" the second best underlined.'
    )
    significance: str | None = Field(
        None,
        description="A row that each figure of a test set is compared with; a mark says where the difference is "
        "decided, by the 95 % interval over images and, with several seeds, over seeds.",
    )


class StudyFile(Section):
    """A study (config/<name>.yaml)."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = Field(
        description="The folder under results/ and the study's name in every table."
    )
    description: str = Field(description="A sentence for the report.")
    scales: Annotated[tuple[Scale, ...], Field(min_length=1), *_DISTINCT] = Field(
        description="Upscaling factors; the ablations of Tables 3 and 4 are at x4."
    )
    seeds: Annotated[Seeds, Field(min_length=1)] = Field(description="One training run a variant, a scale and a seed.")
    chosen_variants: Names = Field(
        "all",
        alias="variants",
        description='Variants that are trained, by name; "all" takes every file in ablations/, and in that of your '
        "project, that does not say `in_all: false`.",
    )
    extra_seeds: Mapping[str, Seeds] = Field({}, description="Further seeds of single variants: name -> list.")
    chosen_networks: Names = Field(
        "all",
        alias="networks",
        description='Published networks that stand in Tables 1 and 2, by name; "all" takes every one of these tables.',
    )
    retrain: Annotated[tuple[str, ...], *_DISTINCT] = _unless_default(
        (),
        description="Published networks that are trained as the variants are, from their own initial weights, at all "
        'scales that they have; Table 1 shows them as "IMDN, retrained" beside the published weights.',
    )
    own_networks: Folder | None = _unless_default(
        None,
        description="A folder with networks of your own, one YAML file each, which stand in Table 1 like published "
        "ones.",
    )
    data: Data = Field(description="Images for training, for choosing the best weights and for testing.")
    weights: Weights = Field(Weights(), description="Published weights of other networks, for Table 1.")
    training: Training | None = Field(
        description="How each run is trained (Section 4.1); null for a study that only evaluates published weights."
    )
    run: RunSettings = Field(RunSettings(), description="How a run is carried out; changes no result.")
    efficiency: Efficiency = Field(Efficiency(), description="How Tables 2 and 5 are measured.")
    figures: Figures = Field(Figures(), description="What Figures 2, 5 and 6 show.")
    own_tables: Mapping[Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")], OwnTable] = _unless_default(
        {},
        description="Tables for a paper of your own: name -> rows and columns; each is written as Markdown, CSV and "
        "LaTeX to `results/<study>/tables/<name>`.",
    )


class Switches(Section):
    """The arguments of `safmn.networks.safmn.SAFMN` that a variant may change."""

    dim: Annotated[int, Field(ge=1, le=4096)] = Field(description="Channels C of a block.")
    n_blocks: Annotated[int, Field(ge=1, le=1024)] = Field(description="Number N of blocks (FMMs).")
    expansion: Annotated[float, Field(gt=0, le=64)] = Field(
        description="Hidden channels of the channel mixer as a multiple of C."
    )
    norm: str = Field(description="Normalisation before each mixer: a name, or a class of your own, `module:Class`.")
    mixer: str = Field(description="In place of SAFM: a name, or a class of your own, `module:Class`.")
    channel_mixer: str = Field(description="In place of CCM: a name, or a class of your own, `module:Class`.")
    pooling: Literal["max", "average", "nearest"] = Field(description="How SAFM makes its lower resolutions.")
    activation: Literal["gelu", "none", "sigmoid"] = Field(description="The activation of SAFM's attention map.")
    modulation: bool = Field(description="Whether SAFM's attention map multiplies its input (FM).")
    multi_scale: bool = Field(description="Whether SAFM works at several resolutions (MR).")
    aggregation: bool = Field(description="Whether SAFM aggregates them by a 1x1 convolution (FA).")


ClassPath = Annotated[str, Field(pattern=f"^{CLASS}$")]
Scales = Annotated[tuple[Scale, ...], Field(min_length=1), *_DISTINCT]
Colour = Literal["RGB", "Y"]


class OwnNetwork(Switches):
    """The key `network` of a variant: the switches of SAFMN that it changes, or a class in place of SAFMN."""

    class_: ClassPath = Field(
        alias="class", description="A network of your own in place of SAFMN, `module:Class`; takes no switches."
    )
    args: Mapping[str, Any] = Field(description="What the class is built with besides the scale: `Class(scale, ...)`.")


def _one_network(network: dict[str, Any]) -> dict[str, Any]:
    switches = sorted(network.keys() - {"class", "args"})
    if "class" in network and switches:
        raise ValueError(f"{switches[0]!r} is a switch of SAFMN, which `class` replaces: move it into `args`")
    if "args" in network and "class" not in network:
        raise ValueError("`args` are for a class of your own: name it by `class`, or give SAFMN's switches without it")
    return network


def _names_a_key(sweep: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if sweep is not None and not sweep:
        raise ValueError("names no key: give at least one with its values, `network.dim: [24, 36]`")
    return sweep


class VariantFile(Section):
    """A variant of SAFMN (ablations/<name>.yaml)."""

    title: str = Field(description="Its name in tables and figures.")
    description: str = Field(description="What is changed, in a sentence.")
    rows: Mapping[Annotated[str, Field(pattern="^[1-5]$")], str | int] = Field(
        {},
        description="The paper's rows that it stands for: table number -> label as printed. The network must then have "
        "their printed complexity, or is refused before it is trained.",
    )
    beside: str = Field(
        "", description="For one that stands for no row of the paper: the variant after whose row it is shown."
    )
    in_all: bool = Field(
        True, description="Whether a study's `variants: all` takes it; otherwise a study trains it only by its name."
    )
    network: Annotated[dict[str, Any], partial(OwnNetwork), AfterValidator(_one_network)] = Field(
        {}, description="The switches of SAFMN that it changes, or a class in place of SAFMN."
    )
    training: Annotated[dict[str, Any], partial(Training)] = Field(
        {}, description="The keys of a study's `training` that it changes: any of them."
    )
    data: Annotated[dict[str, Any], partial(Data, "train")] = Field(
        {}, description="`train`, the images that it is trained on instead of the study's."
    )
    scales: Scales | None = Field(
        None,
        description="Upscaling factors that it is counted and trained at; null counts all and trains x4 alone, as the "
        "paper does its ablations.",
    )
    colour: Colour = Field("RGB", description="What a class of your own takes and returns: RGB, or Y alone.")
    sweep: Annotated[
        Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] | None, AfterValidator(_names_a_key)
    ] = Field(
        None,
        description="Keys below `network`, `training` or `data` -> values, such as `{network.dim: [24, 36, 48]}`; each "
        "combination is a variant, with the values in its name.",
    )


class WeightsOf(Section):
    """Where the weights of a network are: an address, or a file beside the YAML file."""

    url: Annotated[str, Field(pattern="^https?://[^/]+/.+$")] | None = Field(None, description="Address to download.")
    file: str | None = Field(None, description="A local file instead, from the folder of the YAML file.")
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        None, description="Checksum of the download; null records the first one seen."
    )
    size: Annotated[int, Field(ge=1)] | None = Field(None, description="Bytes of the download.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.file is None):
            raise ValueError("give either `url` or `file`")
        return self


class NetworkFile(Section):
    """A network of one's own with published weights (a file in the folder `own_networks` of a study)."""

    title: str = Field(description="Its name in tables and figures.")
    class_: ClassPath = Field(
        alias="class", description="The class, `module:Class`; the module may lie beside the file."
    )
    args: Mapping[str, Any] = Field({}, description="What it is built with besides the scale: `Class(scale, ...)`.")
    scales: Scales = Field((2, 3, 4), description="Upscaling factors that it has.")
    colour: Colour = Field("RGB", description="What it takes and returns: RGB, or Y alone.")
    reference: str = Field("", description="The paper that defines it.")
    licence: str = Field("", description="Of the weights.")
    weights: Mapping[Annotated[str, Field(pattern="^[234]$")], WeightsOf] = Field(
        {}, description="Scale -> the file of its weights."
    )
