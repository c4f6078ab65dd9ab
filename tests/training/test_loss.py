"""The loss against the two definitions that it shortens: the trainer's stacked spectra, and the Fourier sum itself."""

import cmath
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from safmn.training import loss

SHAPES = [(1, 3, 8, 8), (2, 3, 16, 12), (3, 1, 7, 9), (2, 3, 32, 32), (2, 2, 5, 1), (1, 1, 4, 2)]


def images(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def stacked(sr: Tensor, hr: Tensor) -> Tensor:
    """As the authors' trainer writes it: two transforms, real and imaginary parts stacked, L1 between the stacks."""
    spectra = [torch.fft.rfft2(image, dim=(-2, -1)) for image in (sr, hr)]
    one, other = (torch.stack([spectrum.real, spectrum.imag], dim=-1) for spectrum in spectra)
    return F.l1_loss(one, other)


def by_definition(sr: Tensor, hr: Tensor) -> float:
    """The mean over half-plane frequencies of |real| and |imaginary| differences, each coefficient as its own sum."""
    batch, channels, height, width = sr.shape
    terms = []
    for n, c in itertools.product(range(batch), range(channels)):
        for u, v in itertools.product(range(height), range(width // 2 + 1)):
            coefficients = []
            for image in (sr, hr):
                coefficients.append(
                    sum(
                        image[n, c, y, x].item() * cmath.exp(-2j * math.pi * (u * y / height + v * x / width))
                        for y, x in itertools.product(range(height), range(width))
                    )
                )
            gap = coefficients[0] - coefficients[1]
            terms += [abs(gap.real), abs(gap.imag)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("shape", SHAPES)
def test_terms_are_those_of_the_reference(shape):
    sr, hr = images(*shape)
    l1, frequency = loss.terms(sr, hr)
    torch.testing.assert_close(l1, F.l1_loss(sr, hr))
    torch.testing.assert_close(frequency, stacked(sr, hr), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_reference(shape):
    """In double precision, where the sign of a small coefficient is not left to rounding."""
    sr, hr = (image.double() for image in images(*shape, seed=1))
    gradients = []
    for terms in (loss.terms, lambda one, other: (F.l1_loss(one, other), stacked(one, other))):
        leaf = sr.clone().requires_grad_()
        l1, frequency = terms(leaf, hr)
        (2 * l1 + 0.05 * frequency).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 1, 3, 5), (1, 3, 4, 6)])
def test_frequency_term_is_the_fourier_sum(shape):
    sr, hr = images(*shape, seed=2)
    assert loss.terms(sr, hr)[1].item() == pytest.approx(by_definition(sr, hr), rel=1e-5)


def test_half_precision_output_is_compared_in_single_precision():
    """A sum over a bright patch overflows float16 and drowns in bfloat16's 8 bits."""
    hr = torch.full((1, 3, 256, 256), 0.5)
    sr = (hr + 0.25).bfloat16()
    l1, frequency = loss.terms(sr, hr)
    assert l1.dtype == frequency.dtype == torch.float32
    assert frequency.item() == pytest.approx(stacked(sr.float(), hr).item(), rel=1e-5)
