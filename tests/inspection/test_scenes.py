"""Where is looked: named images and squares, and the choice where none is named."""

import numpy as np
import pytest

from safmn.errors import UserError
from safmn.inspection.scenes import MARGIN, Square, dataset_of, open_scene, richest


def test_a_scene_is_one_image_and_a_square_of_it(benchmark):
    scene = open_scene(benchmark, 4, "textured", (16, 8), 40)
    assert (scene.dataset, scene.image, scene.crop) == ("Small", "textured", Square(16, 8, 40))
    assert (len(scene.pairs), list(scene.pairs.names)) == (1, ["textured"])
    assert scene.hr.shape == (128, 160, 3)
    assert scene.lr.shape == (32, 40, 3)
    np.testing.assert_array_equal(scene.crop.of(scene.hr), scene.hr[8:48, 16:56])


def test_the_first_image_is_the_default(benchmark):
    assert open_scene(benchmark, 4).image == "plain"
    assert open_scene(f"{benchmark}[1:]", 4).image == "textured"


def test_the_square_is_where_the_texture_is(benchmark):
    crop = open_scene(benchmark, 4, "textured", size=48).crop
    assert abs(crop.left - 72) <= 8  # the edge of the texture counts as well
    assert abs(crop.top - 56) <= 8


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_choice_is_the_best_of_all_squares_away_from_the_border(scale):
    lr = np.random.default_rng(scale).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    size = 8 * scale
    found = richest(lr, scale, size)
    y = lr @ np.array([65.481, 128.553, 24.966]) / 255
    texture = np.hypot(np.diff(y, axis=0, append=y[-1:]), np.diff(y, axis=1, append=y[:, -1:]))
    best = {}
    for top in range(MARGIN, 40 - 8 - MARGIN + 1):
        for left in range(MARGIN, 50 - 8 - MARGIN + 1):
            best[texture[top : top + 8, left : left + 8].sum()] = Square(left * scale, top * scale, size)
    assert found == best[max(best)]


def test_a_small_image_is_taken_whole(benchmark):
    assert open_scene(benchmark, 4, size=500).crop == Square(16, 0, 128)


@pytest.mark.parametrize(
    ("image", "corner", "words"),
    [("other", None, "choose one of plain, textured"), ("plain", (120, 0), "not inside plain, which has 160x128")],
)
def test_what_is_not_there_is_refused(benchmark, image, corner, words):
    with pytest.raises(UserError, match=words):
        open_scene(benchmark, 4, image, corner, 48)


def test_a_packed_store_is_called_as_its_dataset():
    assert dataset_of("results/mini/data/Set5/x4[1:4:2]") == "Set5"
    assert dataset_of("data/Set5") == "Set5"
