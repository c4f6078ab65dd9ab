"""The authors' draw: the cuts of their script, a round that leaves nothing out, and how often each place comes."""

import itertools
from collections import Counter

import numpy as np
import pytest

from safmn.data import draws
from safmn.data.draws import DRAWS, Subimages
from safmn.data.patches import PatchSampler
from safmn.errors import UserError
from safmn.planning.calibration import Noise

from .pictures import check_message


def script(length: int, crop: int, step: int, thresh: int = 0) -> list[int]:
    """Where the authors' cutting script (BasicSR) cuts along a side."""
    space = np.arange(0, length - crop + 1, step)
    if length - (space[-1] + crop) > thresh:
        space = np.append(space, length - crop)
    return space.tolist()


def cuts_of(shapes: list[tuple[int, int]], scale: int) -> list[tuple[int, int, int]]:
    """Every sub-image of LR images: image, row, column."""
    side, step = 480 // scale, 240 // scale
    return [
        (image, top, left)
        for image, (height, width) in enumerate(shapes)
        for top, left in itertools.product(script(height, side, step), script(width, side, step))
    ]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_cuts_are_those_of_the_authors_script(scale):
    """Their script cuts HR and LR apart, each in its own pixels: the two must show the same places."""
    side, step = 480 // scale, 240 // scale
    for length in range(side, 5 * side + 2):
        found = draws.starts(length, side, step)
        assert found == script(length, side, step)
        assert [start * scale for start in found] == script(length * scale, 480, 240)
        assert len(found) == 1 + -(-(length - side) // step)


def test_how_many_sub_images_there_are():
    """By hand: 2040x1356 has 8 columns (0, 240 ... 1440, and 1560) and 5 rows (0, 240, 480, 720, and 876)."""
    assert len(Subimages([(339, 510)], 64, 4, 0).cuts) == 40
    assert len(Subimages([(120, 120), (180, 120), (181, 120)], 64, 4, 0).cuts) == 1 + 2 + 3
    shapes = [(339, 510), (120, 121), (351, 510), (240, 300)]
    assert [tuple(cut) for cut in Subimages(shapes, 64, 4, 0).cuts.tolist()] == cuts_of(shapes, 4)


def test_what_it_leaves_out_of_a_usual_image():
    """What others found on 2040x1356 pixels at x4: 7.2 % of the positions never come, 0.113 in total variation."""
    rows, columns = 339 - 63, 510 - 63
    chances = np.zeros((rows, columns))
    for _, top, left in Subimages([(339, 510)], 64, 4, 0).cuts:
        chances[top : top + 57, left : left + 57] += 1
    chances /= chances.sum()
    assert round((chances == 0).mean(), 3) == 0.072
    assert round(np.abs(chances - 1 / (rows * columns)).sum() / 2, 3) == 0.113


@pytest.fixture
def small(monkeypatch):
    """Sub-images of 16 HR pixels, one each 8: at x4 of 4 LR pixels, one each 2."""
    monkeypatch.setattr(draws, "HR_SIDE", 16)
    monkeypatch.setattr(draws, "HR_STEP", 8)


def chosen(draw: Subimages, iterations, batch: int) -> list[tuple[int, ...]]:
    """The sub-image of each patch: with words of 0, a patch lies in its corner."""
    words = np.zeros(batch, np.uint64)
    return [place for i in iterations for place in zip(*(part.tolist() for part in draw.places(i, words)), strict=True)]


@pytest.mark.parametrize("batch", [1, 3, 7, 64, 500])
def test_a_round_has_each_sub_image_ten_times(small, batch):
    """Whatever the batch, also where one goes over the end of a round, or over several."""
    draw = Subimages([(7, 5), (4, 9)], 3, 4, seed=5)
    length = 10 * len(draw.cuts)
    assert length == 100  # (3 x 2) + (1 x 4) sub-images, ten times
    stream = chosen(draw, range(-(-3 * length // batch)), batch)
    rounds = [stream[start : start + length] for start in range(0, 3 * length, length)]
    for each in rounds:
        assert Counter(each) == {tuple(cut): 10 for cut in draw.cuts.tolist()}
    assert rounds[0] != rounds[1] != rounds[2]
    assert rounds[0] != sorted(rounds[0])
    # The same from any iteration on, in any order, by a draw that has just been made.
    for i in (0, 250 // batch, 100 // batch):
        again = Subimages([(7, 5), (4, 9)], 3, 4, seed=5)
        assert chosen(again, [i], batch) == stream[i * batch : (i + 1) * batch]
    assert chosen(Subimages([(7, 5), (4, 9)], 3, 4, seed=6), range(100), 1) != stream[:100]


def test_a_shuffle_is_fair(small):
    """Each sub-image is as often in the first tenth of a round as in any other; 400 rounds, fixed by their seeds."""
    counts = np.zeros((10, 10), int)
    for seed in range(400):
        draw = Subimages([(7, 5), (4, 9)], 3, 4, seed)
        numbers = {tuple(cut): number for number, cut in enumerate(draw.cuts.tolist())}
        for place, cut in enumerate(chosen(draw, [0], 100)):
            counts[place // 10, numbers[cut]] += 1
    # Each cell: 400 times hypergeometric, 10 of 100 with 10 marked: mean 1, variance 10/11 * 90/100.
    deviation = (400 * 0.9 * 90 / 99) ** 0.5
    assert np.abs(counts - 400).max() < 4.5 * deviation


def test_a_place_comes_as_often_as_sub_images_hold_it(small):
    """Chances by counting all places of all sub-images; the middle of an image comes more often than its rim."""
    shapes, batch, patch = [(7, 5), (4, 9)], 1000, 3
    draw = Subimages(shapes, patch, 4, 0)
    expected: Counter = Counter()
    for image, top, left in cuts_small(shapes):
        for y, x in itertools.product(range(2), range(2)):
            expected[image, top + y, left + x] += 1
    generator = np.random.default_rng(0)
    found: Counter = Counter()
    for i in range(50):
        words = generator.integers(0, 2**64, batch, np.uint64)
        found.update(zip(*(part.tolist() for part in draw.places(i, words)), strict=True))
    assert found.keys() == expected.keys()
    assert max(expected.values()) > min(expected.values())
    total, share = sum(found.values()), sum(expected.values())
    squares = sum((found[key] - total * n / share) ** 2 / (total * n / share) for key, n in expected.items())
    freedom = len(expected) - 1
    assert squares < freedom + 4 * (2 * freedom) ** 0.5


def cuts_small(shapes: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    return [
        (image, top, left)
        for image, (height, width) in enumerate(shapes)
        for top, left in itertools.product(script(height, 4, 2), script(width, 4, 2))
    ]


def test_flips_do_not_depend_on_the_draw(small):
    noise = Noise(4, 64, 64, 2)
    one, other = (PatchSampler([noise], 50, 3, 4, 0, draw=name).draw(7) for name in DRAWS)
    for part in ("hflip", "vflip", "transpose"):
        assert np.array_equal(getattr(one, part), getattr(other, part))
    assert not np.array_equal(one.top, other.top)


# --- what does not fit ---


def test_an_image_smaller_than_a_sub_image_is_named():
    noise = Noise(4, 476, 800, 2)
    with pytest.raises(
        UserError, match=r"image noise0 is 800x476, smaller than a sub-image of 480x480 .2 of 2 .*draw: area"
    ) as caught:
        PatchSampler([noise], 2, 64, 4, 0, draw="subimages")
    check_message(caught.value)
    larger = Noise(4, 480, 800, 1)
    skipping = PatchSampler([noise, larger], 2, 64, 4, 0, draw="subimages", small="skip")
    assert (len(skipping.names), skipping.skipped) == (1, ["noise0", "noise1"])
    assert PatchSampler([noise], 2, 64, 4, 0, draw="subimages", small="mirror").batch(0)[1].shape == (2, 3, 256, 256)


@pytest.mark.parametrize(("scale", "patch"), [(2, 241), (3, 161), (4, 121)])
def test_a_patch_larger_than_a_sub_image(scale, patch):
    noise = Noise(scale, 1200, 1200, 1)
    with pytest.raises(UserError, match=f"training.patch: {patch} is larger than a sub-image") as caught:
        PatchSampler([noise], 2, patch, scale, 0, draw="subimages")
    check_message(caught.value)
    assert PatchSampler([noise], 2, patch - 1, scale, 0, draw="subimages").batch(0)[0].shape[-1] == patch - 1
