"""Which of the tensors in a weight file are a network's, and which of them are averaged (EMA, SWA).

Training programs wrap weights in their own ways: under a key of their own (`state_dict`, `model`, `params_ema`), behind
a prefix that all keys share (`module.`, `generator.`), among losses, discriminators and counters. So nothing is looked
up by name: every container and every prefix in it is tried, and what has exactly the network's keys and shapes is a set
of its weights. Names only tell which of two sets is the averaged one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from safmn.errors import UserError
from safmn.networks import marker
from safmn.networks.checkpoints import Held

AVERAGED = {"ema", "emas", "ewma", "swa", "polyak", "shadow", "average", "averaged", "avg", "moving", "smoothed"}
RAW = {"raw", "online", "current", "unaveraged", "collected", "backup", "stored"}  # the last three: set aside
NOT = {"non", "no", "not", "without", "pre", "before"}
# Tensors that have the weights' names and shapes and are none, and where there are more of them.
NO_WEIGHTS = re.compile(r"(\w+_)?grads?|gradients?|moments?|momentum(_buffers?)?|exp_avg\w*")
OPTIMISERS = {"optim", "optimizer", "optimizers", "optimiser"}
# What profilers (thop), averaging wrappers (torch, ema-pytorch, LitEma) and loops leave among weights, a number each.
COUNTERS = {
    *("total_ops", "total_params", "n_averaged", "num_batches_tracked", "initted", "step", "num_updates", "decay"),
    *("epoch", "iteration", "global_step", "optimization_step", "cur_step"),
}
# Parts of a key that wrappers of FSDP, torch.compile and Lightning put anywhere in it.
INSIDE = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_fpw_module"}
DEEPEST = 8  # parts of a prefix


@dataclass(frozen=True)
class Weights:
    """A set of weights that fits the network.

    Attributes:
        key: where it lies in the file: the keys and the prefix that lead to it, joined by dots; "" at the top level.
        state: ready for `load_state_dict`.
        averaged: True, False, or None where no name says so.
        marks: variants that markers in it name.
        remark: what was taken from elsewhere, "" for nothing.
    """

    key: str
    state: dict[str, Tensor]
    averaged: bool | None = None
    marks: tuple[str, ...] = ()
    remark: str = ""
    own: dict[str, Tensor] = field(default_factory=dict, repr=False)  # as in the file, without prefix and counters


@dataclass(frozen=True)
class Found:
    """What a file holds for a network.

    Attributes:
        weights: the sets that fit.
        unread: keys of averaged weights that seem to be the network's but do not fit.
        nearest: (key, tensors) of the set that comes nearest, converted: for a message.
        error: why a set that looked right was refused by the network's own conversion.
    """

    weights: list[Weights]
    unread: list[str]
    nearest: tuple[str, dict[str, Tensor]]
    error: UserError | None


def find(held: Sequence[Held], module: nn.Module, scale: int) -> Found:
    """Every set of weights of `module` among the containers of a file."""
    return _Search(module, scale).run(held)


class _Search:
    def __init__(self, module: nn.Module, scale: int) -> None:
        self.module, self.scale = module, scale
        self.wanted = module.state_dict()
        self.parameters = {name for name, _ in module.named_parameters()}
        self.error: UserError | None = None
        self.nearest: tuple[tuple[int, int], str, dict[str, Tensor]] = ((-1, 0), "", {})

    def run(self, held: Sequence[Held]) -> Found:
        fits: list[Weights] = []
        left: list[Held] = []
        for each in held:
            if each.named:
                found, rest = self._in_container(each)
                fits += found
                left += rest
            else:
                left.append(each)
        others = [fit for fit in fits if not fit.averaged]
        # A conversion may make up what an average of parameters alone lacks: the raw set's own is meant.
        for place, fit in enumerate(fits):
            if fit.averaged and len(others) == 1 and others[0].own.keys() > fit.own.keys():
                fits[place] = self._completed(Held((fit.key,), fit.own), others) or fit
        unread = []
        for each in left:
            if averaged(each.place) and _is_weights(each.place):
                completed = self._completed(each, others)
                if completed:
                    fits.append(completed)
                elif self._resembles(each.tensors):
                    unread.append(key_of(each.place))
        read = [fit.key for fit in fits if fit.averaged]
        unread = [key for key in unread if not any(_within(key, one) or _within(one, key) for one in read)]
        return Found(_lightning(fits), sorted(unread, key=len), self.nearest[1:], self.error)

    def _in_container(self, held: Held) -> tuple[list[Weights], list[Held]]:
        """The sets that fit in one mapping, and the groups under a prefix that do not."""
        tensors = _unwrapped(held.tensors)
        found: list[Weights] = []
        left: list[Held] = []
        taken: set[str] = set()
        aside: set[str] = set()  # averaged by name, and not all that the network has
        counts = Counter(prefix for key in tensors for prefix in _prefixes(key))
        # The longest first: what is found below a prefix does not count above it.
        for prefix in sorted(counts, key=len, reverse=True):
            place = (*held.place, *prefix.split(".")[:-1])
            if (prefix and 2 * counts[prefix] < len(self.parameters)) or not _is_weights(place):
                continue
            group = {key[len(prefix) :]: t for key, t in tensors.items() if key.startswith(prefix) and key not in taken}
            if not group:
                continue
            state = self._fitting(key_of(place), group)
            if state is None and aside:
                rest = {key: tensor for key, tensor in group.items() if prefix + key not in aside}
                state = self._fitting(key_of(place), rest)
                group = group if state is None else rest
            if state is None:
                left.append(Held(place, group))
                if averaged(place[len(held.place) :]):
                    aside |= {prefix + key for key in group}
                continue
            own, marks = _plain(group, self.wanted)
            # torch's AveragedModel counts beside its module; without the wrapper's prefix, beside the weights.
            parts = prefix.split(".")[:-1]
            beside = ["".join(f"{part}." for part in parts[:depth]) for depth in range(len(parts) + (not found))]
            counted = any(f"{each}n_averaged" in tensors for each in beside)
            found.append(Weights(key_of(place), state, True if counted else averaged(place), marks, own=own))
            taken |= {prefix + key for key in group}
        return found, left

    def _fitting(self, key: str, group: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """The network's state dict made of `group`, None where it does not fit."""
        group, _ = _plain(group, self.wanted)
        state = self._converted(group)
        if fits(state, self.wanted):
            return state
        inner = {".".join(part for part in name.split(".") if part != "module"): t for name, t in group.items()}
        if len(inner) == len(group) and fits(self._converted(inner), self.wanted):
            return self._converted(inner)
        right = sum(name in self.wanted and agree(tensor, self.wanted[name]) for name, tensor in state.items())
        likeness = (right, right - len(state) if right else len(state))
        if likeness > self.nearest[0]:
            self.nearest = (likeness, key, state)
        return None

    def _converted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        convert = getattr(self.module, "convert_published", None)
        if convert is None:
            return state
        try:
            return convert(dict(state), self.scale)
        except UserError as error:
            self.error = self.error or error
        except (LookupError, ValueError, RuntimeError, AttributeError):
            pass  # it looked for a key or a shape that another network's file does not have
        return state

    def _completed(self, held: Held, others: list[Weights]) -> Weights | None:
        """Averaged weights that lack names, dots or buffers, completed by the one raw set in the file."""
        if len(others) != 1:
            return None
        base, group = others[0].own, held.tensors
        if held.named:
            group = _with_dots(_plain(group, base)[0], base)
        else:
            learnt = [key for key in base if key in self.parameters] or list(base)
            names = next((names for names in (learnt, list(base)) if len(names) == len(group)), None)
            if names is None:
                return None
            group = dict(zip(names, group.values(), strict=True))
        missing = base.keys() - group.keys()
        if group.keys() - base.keys() or missing & self.parameters:
            return None
        if not all(agree(tensor, base[key]) for key, tensor in group.items()):
            return None
        state = self._converted({**base, **group})
        if not fits(state, self.wanted):
            return None
        remark = f"its buffers are those of {others[0].key or TOP}" if missing else ""
        return Weights(key_of(held.place), state, True, others[0].marks, remark)

    def _resembles(self, group: Mapping[str, Tensor]) -> bool:
        """Whether at least half of the network's parameters have a tensor of their shape in `group`."""
        shapes = Counter(tuple(self.wanted[key].shape) for key in self.parameters if key in self.wanted)
        common = shapes & Counter(tuple(tensor.shape) for tensor in group.values())
        return 2 * common.total() >= shapes.total() > 0


TOP = "the top level"


def choose(weights: list[Weights], unread: list[str], which: str | None) -> tuple[Weights, str, str]:
    """(the set asked for, "ema", "raw" or "only", a sentence about the choice or "").

    Args:
        which: "ema" (averaged), "raw", a key of the file, or None: the averaged where there are several.

    Raises:
        UserError: what is asked for is not there, or it cannot be told which is meant. To follow the file's name.
    """
    held = _listed(weights)
    averages = _distinct([each for each in weights if each.averaged])
    others = _distinct([each for each in weights if not each.averaged])
    if which not in (None, "ema", "raw"):
        named = [each for each in weights if which == (each.key or TOP)]
        named = named or [each for each in weights if _within(each.key, which)]
        if len(named) != 1:
            keys = ", ".join(each.key or TOP for each in weights)
            raise UserError(f"holds no such weights as {which!r}: --which takes raw, ema or one of: {keys}")
        chosen = named[0]
    elif which == "ema" or (which is None and averages):
        if not averages:
            if unread:
                raise UserError(f"holds averaged weights under {unread[0]} that do not fit the network, beside {held}")
            raise UserError(f"holds no averaged weights, only {held}: leave --which out")
        if len(averages) > 1:
            raise UserError(f"holds several sets of averaged weights, {_listed(averages)}: choose by --which KEY")
        chosen = averages[0]
    else:
        if not others:
            raise UserError(f"holds averaged weights only, {held}: leave --which out, or choose --which ema")
        if which is None and unread:
            raise UserError(
                f"holds averaged weights under {unread[0]} that do not fit the network, and others under "
                f"{others[0].key or TOP}: choose the latter by --which raw"
            )
        called_raw = [each for each in others if each.averaged is False]
        if which == "raw" and len(called_raw) == 1:
            others = called_raw
        if len(others) > 1:
            raise UserError(
                f"holds {len(others)} sets of weights, {_listed(others)}, and no name says which is averaged: choose "
                "by --which KEY"
            )
        chosen = others[0]
    if not unread and (len(weights) == 1 or (not averages and len(_distinct(weights)) == 1)):
        return chosen, "only", ""
    rest = ", ".join(each.key or TOP for each in weights if each is not chosen) or unread[0]
    what = f"the averaged ones, {chosen.key or TOP}" if chosen.averaged else f"{chosen.key or TOP} (not averaged)"
    remark = f"holds several sets of weights: took {what}, not {rest} (--which chooses)"
    return chosen, "ema" if chosen.averaged else "raw", remark + (f"; {chosen.remark}" if chosen.remark else "")


def _listed(weights: Sequence[Weights]) -> str:
    return " and ".join(f"{each.key or TOP}{' (averaged)' if each.averaged else ''}" for each in weights)


def _distinct(weights: list[Weights]) -> list[Weights]:
    """One of each that hold the same numbers."""
    found: list[Weights] = []
    for each in weights:
        same = (
            all(each.state[key].dtype == t.dtype and torch.equal(each.state[key], t) for key, t in other.state.items())
            for other in found
        )
        if not any(same):
            found.append(each)
    return found


def _lightning(weights: list[Weights]) -> list[Weights]:
    """Lightning's WeightAveraging puts the averaged weights into `state_dict`, the raw into `current_model_state`."""
    if not any(each.key.split(".")[0] == "current_model_state" for each in weights):
        return weights
    return [
        replace(each, averaged=True) if each.averaged is None and each.key.split(".")[0] == "state_dict" else each
        for each in weights
    ]


def averaged(place: Sequence[str]) -> bool | None:
    """Whether the keys that lead to a set call it averaged; the innermost that says anything counts, None if none."""
    for part in reversed(place):
        words = set(_words(part))
        near = {word for word in words if word.startswith("ema") or word.endswith("ema")} - {"schema", "cinema"}
        if words & AVERAGED or near:
            return not words & NOT
        if words & RAW:
            return False
    return None


def _is_weights(place: Sequence[str]) -> bool:
    if any(NO_WEIGHTS.fullmatch(part) for part in place):
        return False
    return averaged(place) is True or not any(set(_words(part)) & OPTIMISERS for part in place)


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def _words(text: str) -> list[str]:
    """`state_dict_ema`, `modelEMA` and `EMAModel` in their words, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def key_of(place: Sequence[str]) -> str:
    """How a place is called in messages and in `--which`."""
    return ".".join(place)


def fits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Whether `state` has exactly the keys and shapes of `wanted`."""
    return state.keys() == wanted.keys() and all(agree(state[key], wanted[key]) for key in wanted)


def agree(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape and are both of real numbers or both not."""
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def _prefixes(key: str) -> Iterator[str]:
    """ "", and every start of `key` that ends with a dot."""
    yield ""
    place = -1
    for _ in range(DEEPEST):
        place = key.find(".", place + 1)
        if place < 0:
            return
        yield key[: place + 1]


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the parts that wrappers put into them; as they are where two would become one."""
    plain = {".".join(part for part in key.split(".") if part not in INSIDE): each for key, each in tensors.items()}
    return plain if len(plain) == len(tensors) else dict(tensors)


def _plain(group: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Without counters that the network does not have, and without markers; the variants that these name."""
    state = {
        key: tensor
        for key, tensor in group.items()
        if key in wanted or tensor.numel() != 1 or key.rsplit(".", 1)[-1] not in COUNTERS
    }
    return marker.taken_off(state)


def _with_dots(group: dict[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of `base` for keys that LitEma wrote without their dots; `group` as it is where it has any."""
    dotless = {key.replace(".", ""): key for key in base}
    if not group or any("." in key for key in group) or len(dotless) < len(base):
        return group
    first = next(iter(group))
    for length in range(len(first)):
        if all(key[:length] == first[:length] and key[length:] in dotless for key in group):
            return {dotless[key[length:]]: tensor for key, tensor in group.items()}
    return group
