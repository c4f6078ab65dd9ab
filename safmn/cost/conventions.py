"""Other ways of counting, for published counts that do not follow from fvcore's convention.

Each is a function of the network's trace that returns the number which this way gives, and a sentence that says what it
is. It is registered for the rows and the column that it explains, and for no other: a network that is wrong should not
find an excuse. `safmn.paper.verdicts.count` decides whether the number gives the published value. A way is called
inferred where nobody wrote it down, and only the number speaks for it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from math import prod
from typing import Any

from fvcore.nn.print_model_statistics import _format_size

from safmn.cost import complexity
from safmn.cost.complexity import Trace
from safmn.paper import published, verdicts
from safmn.paper.published import UNITS
from safmn.paper.published import PrintedCell as Cell


@dataclass(frozen=True)
class Alternative:
    """Another way's number (not scaled), what it counts differently, and the rule and bounds of `verdicts.count`."""

    value: int
    sentence: str
    rule: str = "equal"
    low: int | None = None
    high: int | None = None


Compute = Callable[[Trace, Cell], Alternative]


@dataclass(frozen=True)
class Convention:
    """One other way of counting: its function, the column and the rows (table, label, scales or None for all)."""

    name: str
    column: str
    rows: tuple[tuple[int, str, tuple[int, ...] | None], ...]
    compute: Compute

    def covers(self, cell: Cell) -> bool:
        """Return whether it is about this cell."""
        return cell.column == self.column and any(
            cell.table == table and cell.label == label and (scales is None or cell.scale in scales)
            for table, label, scales in self.rows
        )


CONVENTIONS: list[Convention] = []


def convention(column: str, *rows: tuple[int, str] | tuple[int, str, int]) -> Callable[[Compute], Compute]:
    """Register the decorated function for `column` of `rows`: (table, label) or (table, label, scale)."""

    def register(compute: Compute) -> Compute:
        places = tuple((row[0], row[1], row[2:] or None) for row in rows)
        CONVENTIONS.append(Convention(compute.__name__, column, places, compute))
        return compute

    return register


def explanations(traced: Trace, cell: Cell) -> list[dict[str, Any]]:
    """Return the other ways of counting one cell as plain data: `convention`, `value`, `sentence`, `rule`, bounds."""
    return [
        {"convention": way.name}
        | {key: value for key, value in asdict(way.compute(traced, cell)).items() if value is not None}
        for way in CONVENTIONS
        if way.covers(cell)
    ]


def alternatives(traced: Trace, cells: Iterable[Cell]) -> dict[str, list[dict[str, Any]]]:
    """Return column -> other ways of counting, for those of the network's cells that the trace itself does not give.

    Nothing is computed for a cell that is exact or a rounding of the count, so most networks are traced once.
    """
    by_column: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        if not cell.is_count or cell.scale != traced.scale:
            continue
        plain = verdicts.count(cell.printed, cell.unit, getattr(traced, cell.column))
        if plain.verdict == verdicts.CONTRADICTED:
            known = by_column.setdefault(cell.column, [])
            known += [way for way in explanations(traced, cell) if way not in known]
    return {column: ways for column, ways in by_column.items() if ways}


# --- Counted differently ---------------------------------------------------------------------------------------------


@convention("flops", (3, "LN → BN"))
def batch_norm_in_train_mode(traced: Trace, cell: Cell) -> Alternative:
    """Count batch normalisation in train mode: fvcore takes 5 FLOPs an element there, 2 in eval mode."""
    training = complexity.trace(traced.network, traced.scale, training=True)
    return Alternative(
        training.flops, "inferred: counted in train mode, where fvcore takes 5 FLOPs an element for BN instead of 2"
    )


@convention("flops", (3, "AdaptiveMaxPool → AdaptiveAvgPool"))
def average_pooling_not_counted(traced: Trace, cell: Cell) -> Alternative:
    """Count average pooling as 0, as fvcore does with max pooling."""
    pooling = sum(call.flops for call in traced.operations if call.kind == "aten::adaptive_avg_pool2d")
    text, value = _as_fvcore_prints(traced.flops - pooling)
    return Alternative(value, f"inferred: without the {pooling:,} FLOPs of average pooling fvcore prints {text}")


@convention("flops", (1, "FSRCNN"), (1, "LapSRN", 4))
def transposed_at_output(traced: Trace, cell: Cell) -> Alternative:
    """Count a transposed convolution as a convolution of its output's size."""
    value = _flops_with_transposed_at_output(traced)
    return Alternative(
        value, "inferred: transposed convolutions counted at output resolution, fvcore takes the input's"
    )


@convention("flops", (1, "LapSRN", 2))
def one_level_on_the_input_of_x4(traced: Trace, cell: Cell) -> Alternative:
    """Count one pyramid level on the 320x180 input that the x4 network gets: an output of 640x360."""
    height, width = complexity.input_size(4)
    level = complexity.trace(traced.network, 2, size=(height, width))
    return Alternative(
        _flops_with_transposed_at_output(level),
        f"inferred: one level on the {width}x{height} input of x4, transposed convolutions at output resolution",
    )


@convention("params", (1, "LapSRN", 2))
def parameters_of_two_levels(traced: Trace, cell: Cell) -> Alternative:
    """Count the x4 network's two pyramid levels."""
    return Alternative(
        complexity.trace(traced.network, 4).params, "inferred: the parameters of the two levels that x4 has; x2 has one"
    )


@convention("params", (1, "FSRCNN"))
def weights_only(traced: Trace, cell: Cell) -> Alternative:
    """Count the kernels of convolutions, without biases and the slopes of PReLU."""
    value = sum(prod(shape) for shape in traced.parameters.values() if len(shape) > 1)
    return Alternative(value, "inferred: weights only, without biases and the slopes of PReLU")


@convention("params", (1, "EDSR-baseline", 3))
def mean_shift_included(traced: Trace, cell: Cell) -> Alternative:
    """Add the two frozen 1x1 convolutions that subtract and add the mean colour: 3x3 weights and 3 biases each."""
    channels = traced.input[1]
    extra = 2 * (channels**2 + channels)
    return Alternative(
        traced.params + extra, f"inferred: with the {extra} values of the two mean shifts, which are fixed"
    )


@convention("flops", (1, "LAPAR-A"))
def weight_network_with_biases(traced: Trace, cell: Cell) -> Alternative:
    """Count the convolutions with a bias, those of the weight network, and one operation for each bias added.

    The filter bank, the only convolution without a bias, and the final mix are left out.
    """
    value = sum(call.flops + prod(call.output) for call in traced.operations if call.bias)
    return Alternative(
        value, "inferred: the weight network only, without the filter bank, and one operation for each bias"
    )


@convention("params", (1, "ECBSR-M16C64"))
def one_more_slope_a_channel(traced: Trace, cell: Cell) -> Alternative:
    """Count the slopes of PReLU, 17 times 64, twice."""
    slopes = sum(prod(shape) for name, shape in traced.parameters.items() if name.endswith("act.weight"))
    return Alternative(
        traced.params + slopes, f"inferred: {slopes:,} (17x64) more than the network has, as if PReLU had two slopes"
    )


@convention("flops", (1, "SMSR"))
def sparse(traced: Trace, cell: Cell) -> Alternative:
    """Bound the sparse form, whose cost depends on the image: from everything masked to nothing masked."""
    pixels = prod(traced.input[2:])
    masked = pixels * sum(
        prod(shape)
        for name, shape in traced.parameters.items()
        if re.match(r"body\.\d+\.body\.", name) and len(shape) == 4
    )
    low, high = traced.flops - masked, traced.flops
    value = int(Decimal(cell.printed) * UNITS[cell.unit])
    density = (value - low) / masked if masked else 1.0
    return Alternative(
        value,
        f"sparse inference depends on the image: {low / 1e9:.2f} G with everything masked to {high / 1e9:.2f} G dense; "
        f"the published value has {density:.0%} of the maskable work done (not checked with the authors' masks)",
        rule="between",
        low=low,
        high=high,
    )


def _flops_with_transposed_at_output(traced: Trace) -> int:
    return sum(
        prod(call.weight) * call.output[0] * prod(call.output[2:]) if call.transposed and call.weight else call.flops
        for call in traced.operations
    )


# --- Counted alike, printed differently ------------------------------------------------------------------------------


@convention("activations", (3, "SAFM → None"), (3, "CCM → Inverted residual block"), (4, "12"))
@convention("flops", (3, "-"), (3, "(a): w/o FM"), (3, "GELU → None"), (3, "GELU → Sigmoid"), (4, "8"))
def as_fvcore_prints(traced: Trace, cell: Cell) -> Alternative:
    """Round the text of fvcore's own table, which has at most three decimals and giga from 100 mega on."""
    text, value = _as_fvcore_prints(getattr(traced, cell.column))
    return Alternative(
        value, f"{_shown(traced, cell)} is {text} in fvcore's own table, which the paper rounds once more"
    )


@convention("flops", (1, "CARN-M", 4))
def rounded_twice(traced: Trace, cell: Cell) -> Alternative:
    """Round to one digit more than was published, then to the published digits."""
    once = verdicts.rounded(traced.flops, cell.unit, verdicts.decimals(cell.printed) + 1)
    return Alternative(
        int(once * UNITS[cell.unit]),
        f"inferred: {_shown(traced, cell)} rounded to {once} {cell.unit} and then once more",
    )


@convention("activations", (1, "VDSR"))
def three_significant_digits(traced: Trace, cell: Cell) -> Alternative:
    """Round to three significant digits, whatever the unit."""
    exact = Decimal(traced.activations)
    place = exact.adjusted() - 2
    value = int(exact.scaleb(-place).quantize(Decimal(1), ROUND_HALF_UP).scaleb(place))
    return Alternative(value, f"inferred: three significant digits of {_shown(traced, cell)}")


@convention("params", (4, "12"))
def truncated(traced: Trace, cell: Cell) -> Alternative:
    """Truncate after the last published digit instead of rounding."""
    step = Decimal(1).scaleb(-verdicts.decimals(cell.printed))
    value = int((Decimal(traced.params) / UNITS[cell.unit]).quantize(step, ROUND_DOWN) * UNITS[cell.unit])
    return Alternative(value, f"inferred: {_shown(traced, cell)} truncated instead of rounded")


@convention("activations", (4, "6"))
def between_neighbours(traced: Trace, cell: Cell) -> Alternative:
    """Interpolate N = 6 from the table's own N = 4 and N = 8: activations are affine in the number of blocks."""
    beside = {row.label: Decimal(row.printed) for row in published.printed(4) if row.column == cell.column}
    half_way = (beside["4"] + beside["8"]) / 2
    return Alternative(
        int(half_way * UNITS[cell.unit]),
        f"inferred: a slip of one digit, since activations grow evenly with N and the table's own N = 4 "
        f"({beside['4']}) and N = 8 ({beside['8']}) give {half_way} {cell.unit}; counted {_shown(traced, cell)}",
        rule="one digit",
    )


def _as_fvcore_prints(value: int) -> tuple[str, int]:
    """Return a number as fvcore's tables show it ("13.555G"), and the value of that text."""
    text = _format_size(value)
    units = UNITS | {"T": 10**12, "P": 10**15}
    return text, int(Decimal(text[:-1]) * units[text[-1]]) if text[-1] in units else int(text)


def _shown(traced: Trace, cell: Cell) -> str:
    """Return the count with all its digits, in the unit of the published value."""
    return f"{(Decimal(getattr(traced, cell.column)) / UNITS[cell.unit]).normalize():f} {cell.unit}"
