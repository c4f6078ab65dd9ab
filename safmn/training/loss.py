"""The training loss of Section 4.1, mean absolute error plus a frequency term; or one of a user's own."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from safmn.errors import UserError, as_line
from safmn.schema import PAPER
from safmn.training import own

NAME = re.compile(r"[A-Za-z]\w{0,63}")  # of a term: a column of the history
TAKEN = ("iteration", "learning_rate", "gradient_norm", "validation_psnr_rgb")  # by other columns


class Terms(torch.autograd.Function):
    """Both loss terms of a difference image, with their gradient in closed form.

    With d = sr - hr and F = rfft2(d), the terms are mean |d| and the mean of |Re F| and |Im F|. The gradient of the
    first is sign(d) / n. The gradient of the second is the transposed transform of sign(Re F) + i sign(Im F). Automatic
    differentiation fills the missing half of the spectrum with zeros, runs a complex transform and keeps the real part.
    A real inverse transform computes this part directly. It counts every column twice, once for its mirror image,
    except for the first and, if the width is even, the last.
    """

    @staticmethod
    def forward(ctx: Any, difference: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both terms of N x C x H x W `difference`."""
        spectrum = torch.fft.rfft2(difference)
        ctx.save_for_backward(difference, spectrum)
        return difference.abs().mean(), torch.view_as_real(spectrum).abs().mean()

    @staticmethod
    def backward(ctx: Any, grad_l1: Tensor, grad_frequency: Tensor) -> Tensor:
        """Compute the gradient of the difference from the gradients of the two terms."""
        difference, spectrum = ctx.saved_tensors
        height, width = difference.shape[-2:]
        columns = (grad_frequency / (2 * spectrum.numel())).repeat(spectrum.shape[-1])
        columns[1 : (width + 1) // 2] *= 0.5
        signs = torch.view_as_real(spectrum).sgn().mul_(columns[:, None])
        gradient = torch.fft.irfft2(torch.view_as_complex(signs), s=(height, width), norm="forward")
        return gradient.addcmul_(difference.sgn(), grad_l1 / difference.numel())  # type: ignore[no-any-return]  # torch.fft


def terms(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two loss terms of N x C x H x W images in [0, 1]: unweighted scalars (L1, frequency), Section 4.1.

    The first is the mean absolute error. The second is the mean absolute error between the real and imaginary parts of
    the two unnormalised `rfft2` spectra. The transform is linear, F(sr) - F(hr) = F(sr - hr), so one transform is
    enough. With `hr` in float32 it runs in float32, also where autocast leaves `sr` in bfloat16, which is too coarse
    for the spectrum.
    """
    # The transform needs rows of pixels, not of channels: this one copy saves several later ones.
    return Terms.apply((sr - hr).contiguous())  # type: ignore[no-any-return]  # `apply` has no types


class PaperLoss:
    """The two terms of Section 4.1, the second one weighted.

    Attributes:
        names: of the terms, which are columns of the history.
        is_own: whether it is a user's own.
    """

    is_own = False
    names: tuple[str, ...] = ("l1_loss", "fft_loss")

    def __init__(self, fft_weight: float) -> None:
        self._weight = fft_weight

    def __call__(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Return the terms, by name, whose sum is minimised; arguments as of `terms`."""
        l1, frequency = terms(sr, hr)
        return {"l1_loss": l1, "fft_loss": self._weight * frequency}

    def state(self) -> dict[str, Any]:
        """Return what the next call depends on: nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""


class OwnLoss:
    """A loss of a user's own, in place of both terms.

    It is built without arguments and called with SR and HR, both N x 3 x H x W (N x 1 for a network of colour Y) in
    [0, 1] and float32 also where the network computes in bfloat16. It returns a scalar, or a dict of named scalars,
    whose sum is minimised. If it is an `nn.Module`, its parameters are not trained; its buffers are part of a saved
    state.

    Args:
        path: "module:Class".
        device: where it is called.

    Attributes:
        names: of its terms; empty before the first call.
        is_own: whether it is a user's own.

    Raises:
        UserError: the class cannot be imported or built, or what it returns is no loss.
    """

    is_own = True

    def __init__(self, path: str, device: torch.device) -> None:
        self.path = path
        self.names: tuple[str, ...] = ()
        made = own.load(path, "loss")
        try:
            self.function = made()
        except Exception as error:
            raise self._wrong(f"cannot be built without arguments ({as_line(error)}): give each a default") from error
        if not callable(self.function):
            raise self._wrong("cannot be called: give it a `forward` or `__call__` that takes SR and HR")
        if isinstance(self.function, nn.Module):
            self.function = self.function.to(device).requires_grad_(False)

    def __call__(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Return its terms, by name, whose sum is minimised; "loss" is the name of a single one."""
        value = self.function(sr.to(hr.dtype), hr)
        found: Mapping[Any, Any] = value if isinstance(value, Mapping) else {"loss": value}
        if not found or tuple(found) != self.names:
            self._set_names(tuple(found))
        for name, term in found.items():
            if not isinstance(term, Tensor):
                raise self._wrong(f"gives {name} as {type(term).__name__}: return a scalar tensor")
            if term.ndim:
                raise self._wrong(f"gives {name} with shape {tuple(term.shape)}: return a scalar, such as its mean")
        return dict(found)

    def state(self) -> dict[str, Any]:
        """Return what the next call depends on: what it declares by `state_dict`, without parameters."""
        saved: dict[str, Any] = getattr(self.function, "state_dict", dict)()
        fixed = dict(self.function.named_parameters()) if isinstance(self.function, nn.Module) else {}
        return {"names": list(self.names), "function": {key: saved[key] for key in saved if key not in fixed}}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.names = tuple(state["names"])
        if isinstance(self.function, nn.Module):
            self.function.load_state_dict(state["function"], strict=False)
        elif state["function"]:
            self.function.load_state_dict(state["function"])

    def _set_names(self, names: tuple[Any, ...]) -> None:
        if self.names and names:
            raise self._wrong(f"gives other terms than before, {list(names)} instead of {list(self.names)}")
        if not names:
            raise self._wrong("gives a dict without terms: return at least one")
        for name in names:
            if not isinstance(name, str) or not NAME.fullmatch(name) or name in TAKEN:
                raise self._wrong(
                    f"gives a term the name {name!r}: take a letter, then letters, digits and _, and none of "
                    f"{', '.join(TAKEN)}"
                )
        self.names = names

    def _wrong(self, what: str) -> UserError:
        return UserError(f"training.loss: {self.path} {what}")


def build(settings: Mapping[str, Any], device: torch.device) -> PaperLoss | OwnLoss:
    """Return the loss that the `training` section of a specification names."""
    name = settings.get("loss", PAPER["loss"])
    return PaperLoss(settings["fft_weight"]) if name == PAPER["loss"] else OwnLoss(name, device)
