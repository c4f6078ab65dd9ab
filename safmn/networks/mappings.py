"""Finds a network's weights among the tensors of a file, and tells averaged (EMA, SWA) sets from raw ones.

Training programs wrap weights in many ways: under a key (`state_dict`, `model`, `params_ema`), behind a prefix that all
keys share (`module.`, `generator.`), among losses, discriminators and counters. So nothing is looked up by name: every
container and every prefix in it is tried, and tensors with exactly the network's keys and shapes are a set of its
weights. Names only tell which set is the averaged one; the tables below hold them.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from safmn.errors import UserError
from safmn.networks import marker
from safmn.networks.checkpoints import Container

# Words in the keys of averaged and of raw weights; `ema` also counts at a word's start or end (`emanet`, `netema`).
AVERAGED = {"emas", "ewma", "swa", "polyak", "shadow", "average", "averaged", "avg", "moving", "smoothed"}
RAW = {"raw", "online", "current", "unaveraged", "collected", "backup", "stored"}  # the last three: set aside
NEGATIONS = {"non", "no", "not", "without", "pre", "before"}
NOT_EMA = {"schema", "cinema"}
# Gradients, moments, masks, differences, variances: names and shapes of weights, but none; and places that hold more.
NO_WEIGHTS = re.compile(
    r"(\w+_)?grads?|gradients?|moments?|momentum(_buffers?)?|exp_avg\w*|(\w+_)?masks?|deltas?|diffs?|fisher|hessian|"
    r"variances?|sq(uare)?_?means?"
)
OPTIMISERS = {"optim", "optimizer", "optimizers", "optimiser"}
# Single numbers that profilers (thop), averaging wrappers (torch, ema-pytorch, LitEma) and loops put among weights.
COUNTERS = {
    *("total_ops", "total_params", "n_averaged", "num_batches_tracked", "initted", "step", "num_updates", "decay"),
    *("epoch", "iteration", "global_step", "optimization_step", "cur_step"),
}
# Parts of a key that wrappers of FSDP, torch.compile and Lightning put anywhere in it.
WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_fpw_module"}
# Lightning's WeightAveraging keeps raw weights under the first key; those under the second are then averaged.
LIGHTNING_RAW, LIGHTNING_AVERAGED = "current_model_state", "state_dict"
MAX_PREFIX = 8  # parts
TOP = "the top level"


@dataclass(frozen=True)
class Weights:
    """A set of weights that fits the network.

    Attributes:
        key: its place in the file: the keys and the prefix that lead to it, joined by dots; "" at the top level.
        own: its tensors as in the file, without prefix, counters and markers.
        state: the same in the network's own keys, ready for `load_state_dict`.
        averaged: True, False, or None where no name says so.
        marks: the variants that markers in it name.
        remark: what was taken from another set, "" for nothing.
    """

    key: str
    own: dict[str, Tensor]
    state: dict[str, Tensor]
    averaged: bool | None = None
    marks: tuple[str, ...] = ()
    remark: str = ""

    @property
    def name(self) -> str:
        """Its place, for messages and for `--which`."""
        return self.key or TOP


@dataclass(frozen=True)
class Result:
    """What a file holds for a network.

    Attributes:
        weights: the sets that fit.
        unread: keys of averaged weights that resemble the network's but do not fit.
        nearest: (key, converted tensors) of the set that comes nearest, for a message.
        error: why the network's own conversion refused a set.
    """

    weights: list[Weights]
    unread: list[str]
    nearest: tuple[str, dict[str, Tensor]]
    error: UserError | None


def find(containers: Sequence[Container], module: nn.Module, scale: int) -> Result:
    """Find every set of weights of `module`, built for `scale`, among the containers of a file."""
    return _Search(module, scale).run(containers)


class _Search:
    def __init__(self, module: nn.Module, scale: int) -> None:
        self.scale = scale
        self.convert = getattr(module, "convert_published", None)
        self.expected: dict[str, Tensor] = module.state_dict()
        self.parameters = {name for name, _ in module.named_parameters()}
        # A network that has such a wrapper inside, torch.compile for instance, has its name in its own keys.
        self.wrapped = {
            plain: name for name, plain in zip(self.expected, _without_wrappers(self.expected), strict=True)
        }
        self.error: UserError | None = None
        self.nearest: tuple[tuple[int, int], str, dict[str, Tensor]] = ((-1, 0), "", {})

    def run(self, containers: Sequence[Container]) -> Result:
        sets: list[Weights] = []
        rest: list[Container] = []
        for container in containers:
            if container.named:
                self._split(container, sets, rest)
            else:
                rest.append(container)
        raw = [candidate for candidate in sets if not candidate.averaged]
        base = raw[0] if len(raw) == 1 else None
        for index, candidate in enumerate(sets):
            # A conversion makes up what an average of parameters alone lacks: take it from the raw set instead.
            if base and candidate.averaged and base.own.keys() > candidate.own.keys():
                sets[index] = self._complete(Container((candidate.key,), candidate.own), base) or candidate
        unread = []
        for group in rest:
            if averaged(group.place) and _holds_weights(group.place):
                completed = self._complete(group, base) if base else None
                if completed:
                    sets.append(completed)
                elif self._resembles(group.tensors):
                    unread.append(".".join(group.place))
        if any(candidate.key.split(".")[0] == LIGHTNING_RAW for candidate in sets):
            sets = [
                replace(candidate, averaged=True)
                if candidate.averaged is None and candidate.key.split(".")[0] == LIGHTNING_AVERAGED
                else candidate
                for candidate in sets
            ]
        read = [candidate.key for candidate in sets if candidate.averaged]
        unread = [key for key in unread if not any(_within(key, one) or _within(one, key) for one in read)]
        return Result(sets, sorted(unread, key=len), self.nearest[1:], self.error)

    def _split(self, container: Container, sets: list[Weights], rest: list[Container]) -> None:
        """Sort the tensors of a mapping by prefix into sets that fit and groups that do not."""
        tensors = _without_wrappers(container.tensors)
        averages = [key.removesuffix("n_averaged") for key in tensors if key.endswith("n_averaged")]
        counts = Counter(prefix for key in tensors for prefix in _prefixes(key))
        first = len(sets)
        taken: set[str] = set()
        aside: set[str] = set()  # averaged by name, but not all that the network has
        # The longest prefix first: what is found below a prefix does not count above it.
        for prefix in sorted(counts, key=len, reverse=True):
            inner = prefix.split(".")[:-1]
            place = (*container.place, *inner)
            if (prefix and 2 * counts[prefix] < len(self.parameters)) or not _holds_weights(place):
                continue
            group = {key: tensor for key, tensor in tensors.items() if key.startswith(prefix) and key not in taken}
            if not group:
                continue
            for keys in [group.keys()] + ([group.keys() - aside] if aside else []):
                own = {key[len(prefix) :]: tensor for key, tensor in group.items() if key in keys}
                own = {self.wrapped.get(key, key): tensor for key, tensor in own.items()}
                own, marks = _cleaned(own, self.expected)
                state = self._fit(".".join(place), own)
                if state is not None:
                    # torch's AveragedModel counts beside its module; without the wrapper's prefix, beside the weights.
                    new = len(sets) == first
                    counted = any(prefix.startswith(one) and (prefix != one or new) for one in averages)
                    sets.append(Weights(".".join(place), own, state, counted or averaged(place), marks))
                    taken |= keys
                    break
            else:
                rest.append(Container(place, {key[len(prefix) :]: tensor for key, tensor in group.items()}))
                if averaged(inner):
                    aside |= group.keys()

    def _fit(self, key: str, own: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the network's state dict made of `own`, None where it does not fit."""
        state = self._converted(own)
        if fits(state, self.expected):
            return state
        inner = {".".join(part for part in name.split(".") if part != "module"): t for name, t in own.items()}
        if len(inner) == len(own) and fits(self._converted(inner), self.expected):
            return self._converted(inner)
        right = sum(name in self.expected and agree(tensor, self.expected[name]) for name, tensor in state.items())
        likeness = (right, right - len(state) if right else len(state))
        if likeness > self.nearest[0]:
            self.nearest = (likeness, key, state)
        return None

    def _converted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.convert is None:
            return state
        try:
            converted: dict[str, Tensor] = self.convert(dict(state), self.scale)
            return converted
        except UserError as error:
            self.error = self.error or error
        except (LookupError, ValueError, RuntimeError, AttributeError):
            pass  # it looked for a key or a shape that another network's file does not have
        return state

    def _complete(self, group: Container, base: Weights) -> Weights | None:
        """Complete averaged weights that lack names, dots or buffers by the raw set `base`; None where it fails."""
        tensors = group.tensors
        if group.named:
            tensors = _with_dots(_cleaned(tensors, base.own)[0], base.own)
        else:
            learnt = [key for key in base.own if key in self.parameters] or list(base.own)
            names = learnt if len(learnt) == len(tensors) else list(base.own)
            if len(names) != len(tensors):
                return None
            tensors = dict(zip(names, tensors.values(), strict=True))
        missing = base.own.keys() - tensors.keys()
        if tensors.keys() - base.own.keys() or missing & self.parameters:
            return None
        if not all(agree(tensor, base.own[key]) for key, tensor in tensors.items()):
            return None
        state = self._converted({**base.own, **tensors})
        if not fits(state, self.expected):
            return None
        remark = f"its buffers are those of {base.name}" if missing else ""
        return Weights(".".join(group.place), tensors, state, True, base.marks, remark)

    def _resembles(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether at least half of the network's parameters have a tensor of their shape in `tensors`."""
        shapes = Counter(tuple(self.expected[key].shape) for key in self.parameters if key in self.expected)
        common = shapes & Counter(tuple(tensor.shape) for tensor in tensors.values())
        return 2 * common.total() >= shapes.total() > 0


def choose(weights: list[Weights], unread: list[str], which: str | None) -> tuple[Weights, str, str]:
    """Choose one of the sets of weights in a file.

    Args:
        weights: the sets that fit; at least one.
        unread: keys of averaged weights that do not fit.
        which: "ema" (averaged), "raw", a key of the file, or None: the averaged set where there are several.

    Returns:
        The set; "ema", "raw", or "only" where there was no choice; a sentence about the choice or "".

    Raises:
        UserError: the file has no such set, or several. The message is to follow the file's name.
    """
    averages = _distinct([candidate for candidate in weights if candidate.averaged])
    others = _distinct([candidate for candidate in weights if not candidate.averaged])
    if which not in (None, "ema", "raw"):
        named = [candidate for candidate in weights if which == candidate.name]
        named = named or [candidate for candidate in weights if _within(candidate.key, which)]
        if len(named) != 1:
            keys = ", ".join(candidate.name for candidate in weights)
            raise UserError(f"holds no such weights as {which!r}: --which takes raw, ema or one of: {keys}")
        chosen = named[0]
    elif which == "ema" or (which is None and averages):
        if not averages and unread:
            raise UserError(
                f"holds averaged weights under {unread[0]} that do not fit the network, beside {_listed(weights)}"
            )
        if not averages:
            raise UserError(f"holds no averaged weights, only {_listed(weights)}: leave --which out")
        if len(averages) > 1:
            raise UserError(f"holds several sets of averaged weights, {_listed(averages)}: choose by --which KEY")
        chosen = averages[0]
    else:
        if not others:
            raise UserError(
                f"holds averaged weights only, {_listed(weights)}: leave --which out, or choose --which ema"
            )
        if which is None and unread:
            raise UserError(
                f"holds averaged weights under {unread[0]} that do not fit the network, and others under "
                f"{others[0].name}: choose the latter by --which raw"
            )
        called_raw = [candidate for candidate in others if candidate.averaged is False]
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
    rest = ", ".join(candidate.name for candidate in weights if candidate is not chosen) or unread[0]
    what = f"the averaged ones, {chosen.name}" if chosen.averaged else f"{chosen.name} (not averaged)"
    remark = f"holds several sets of weights: took {what}, not {rest} (--which chooses)"
    return chosen, "ema" if chosen.averaged else "raw", remark + (f"; {chosen.remark}" if chosen.remark else "")


def averaged(place: Sequence[str]) -> bool | None:
    """Return whether the keys that lead to a set call it averaged; the innermost counts, None where none says so."""
    for part in reversed(place):
        words = set(_words(part))
        ema = {word for word in words if word.startswith("ema") or word.endswith("ema")} - NOT_EMA
        if words & AVERAGED or ema:
            return not words & NEGATIONS
        if words & RAW:
            return False
    return None


def fits(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Return whether `state` has exactly the keys and shapes of `expected`."""
    return state.keys() == expected.keys() and all(agree(state[key], expected[key]) for key in expected)


def agree(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have one shape and are both of real numbers or both not."""
    return one.shape == other.shape and one.is_floating_point() == other.is_floating_point()


def _listed(weights: Sequence[Weights]) -> str:
    return " and ".join(f"{candidate.name}{' (averaged)' if candidate.averaged else ''}" for candidate in weights)


def _distinct(weights: list[Weights]) -> list[Weights]:
    """Keep one of each group of sets that hold the same numbers."""
    kept: list[Weights] = []
    for candidate in weights:
        same = (
            all(
                candidate.state[key].dtype == t.dtype and torch.equal(candidate.state[key], t)
                for key, t in other.state.items()
            )
            for other in kept
        )
        if not any(same):
            kept.append(candidate)
    return kept


def _holds_weights(place: Sequence[str]) -> bool:
    if any(NO_WEIGHTS.fullmatch(part) for part in place):
        return False
    return averaged(place) is True or not any(set(_words(part)) & OPTIMISERS for part in place)


def _within(key: str, other: str) -> bool:
    return key == other or key.startswith(f"{other}.")


def _words(text: str) -> list[str]:
    """Split `state_dict_ema`, `modelEMA` or `EMAModel` into words, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def _prefixes(key: str) -> list[str]:
    """List "" and every start of `key` that ends with a dot."""
    parts = key.split(".")[:-1][:MAX_PREFIX]
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts) + 1)]


def _without_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take out of keys what wrappers put into them; leave all as they are where two keys would become one."""
    plain = {
        ".".join(part for part in key.split(".") if part not in WRAPPERS): tensor for key, tensor in tensors.items()
    }
    return plain if len(plain) == len(tensors) else dict(tensors)


def _cleaned(tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Remove counters that are not in `base`, and markers; return the rest and the variants that markers name."""
    return marker.taken_off(
        {
            key: tensor
            for key, tensor in tensors.items()
            if key in base or tensor.numel() != 1 or key.rsplit(".", 1)[-1] not in COUNTERS
        }
    )


def _with_dots(tensors: dict[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the keys of `base` for keys that LitEma wrote without dots; return `tensors` as it is where it has any."""
    dotless = {key.replace(".", ""): key for key in base}
    if not tensors or any("." in key for key in tensors) or len(dotless) < len(base):
        return tensors
    first = next(iter(tensors))
    for length in range(len(first)):
        if all(key[:length] == first[:length] and key[length:] in dotless for key in tensors):
            return {dotless[key[length:]]: tensor for key, tensor in tensors.items()}
    return tensors
