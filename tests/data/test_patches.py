"""The draw and the two ways in which its pixels travel."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safmn.data import draws, packed
from safmn.data.patches import Draw, PatchSampler
from safmn.errors import UserError

from .pictures import check_message, edsr_folder

SIZES = {"wide": (13, 40), "tall": (50, 12), "large": (64, 61), "patch": (12, 12)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def stores(folder) -> dict[int, list[packed.PackedPairs]]:
    """By scale, two stores: one whole, one a selection."""
    edsr_folder(folder / "one", SIZES)
    edsr_folder(folder / "two", {"x": (20, 20), "y": (24, 36), "z": (30, 14)})
    return {
        scale: [
            packed.pack("one", folder, scale, folder / f"packs/one/x{scale}"),
            packed.pack("two", folder, scale, folder / f"packs/two/x{scale}").select(slice(1, None)),
        ]
        for scale in (2, 3, 4)
    }


@pytest.fixture(scope="module")
def small_cuts():
    """Sub-images of 12 HR pixels, one each 6, for the small images of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "HR_SIDE", 12)
        patch.setattr(draws, "HR_STEP", 6)
        yield


def sliced(image: np.ndarray, draw: Draw, n: int, patch: int, scale: int) -> np.ndarray:
    """One patch by the definition in Draw's docstring."""
    top, left, side = draw.top[n] * scale, draw.left[n] * scale, patch * scale
    crop = image[top : top + side, left : left + side]
    crop = crop[:, ::-1] if draw.hflip[n] else crop
    crop = crop[::-1] if draw.vflip[n] else crop
    return crop.transpose(1, 0, 2) if draw.transpose[n] else crop


@settings(max_examples=60, deadline=None)
@given(
    scale=st.sampled_from([2, 3, 4]),
    patch=st.integers(1, 3),
    batch=st.integers(1, 5),
    seed=st.integers(0, 2**64 - 1),
    iteration=st.integers(0, 2**40),
    draw=st.sampled_from(["area", "subimages"]),
)
def test_both_back_ends_are_plain_slices(stores, small_cuts, scale, patch, batch, seed, iteration, draw):
    all_images = [(store.lr(i), store.hr(i)) for store in stores[scale] for i in range(len(store))]
    results = []
    for resident in (False, True):
        sampler = PatchSampler(stores[scale], batch, patch, scale, seed, draw=draw, resident=resident)
        assert sampler.backend == ("device" if resident else "host")
        drawn = sampler.draw(iteration)
        results.append(sampler.batch(iteration))
    for lr, hr in results:
        assert lr.shape == (batch, 3, patch, patch)
        assert hr.shape == (batch, 3, patch * scale, patch * scale)
        assert lr.dtype == hr.dtype == torch.uint8
        assert hr.is_contiguous(memory_format=torch.channels_last)
        for n in range(batch):
            for image, tensor, factor in zip(all_images[drawn.image[n]], (lr, hr), (1, scale), strict=True):
                expected = sliced(image, drawn, n, patch, factor)
                np.testing.assert_array_equal(tensor[n].permute(1, 2, 0).numpy(), expected)


# --- the draw ---


def words(draw: Draw) -> bytes:
    return b"".join(np.ascontiguousarray(value).tobytes() for value in vars(draw).values())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["area", "subimages"]),
    st.lists(st.integers(0, 3000), min_size=1, max_size=8),
    st.integers(0, 2**64 - 1),
)
def test_the_draw_depends_on_seed_and_iteration_only(stores, small_cuts, draw, order, seed):
    sampler = PatchSampler(stores[4], 4, 2, 4, seed, draw=draw)
    first = {iteration: words(sampler.draw(iteration)) for iteration in order}
    again = PatchSampler(stores[4], 4, 2, 4, seed, draw=draw, resident=True)
    torch.manual_seed(1)
    for iteration in sorted(order, reverse=True):
        again.batch(iteration)
        assert words(again.draw(iteration)) == first[iteration]


@settings(max_examples=30, deadline=None)
@given(batch=st.integers(1, 9), seed=st.integers(0, 2**64 - 1), iteration=st.integers(0, 2**40))
def test_the_draw_is_the_one_of_earlier_versions(stores, batch, seed, iteration):
    """Philox by its authors' definition is fixed; so is how its words are used, lest a resumed run change."""
    draw = PatchSampler(stores[4], batch, 2, 4, seed).draw(iteration)
    key, counter = np.array([seed, iteration], np.uint64), np.array([0, 0, 0, 0x7061746368], np.uint64)
    raw = [int(word) for word in np.random.Philox(key=key, counter=counter).random_raw(3 * batch)]
    sizes = [(h // 4 - 1, w // 4 - 1) for h, w in [(64, 61), (12, 12), (50, 12), (13, 40), (24, 36), (30, 14)]]
    places = [(i, y, x) for i, (h, w) in enumerate(sizes) for y in range(h) for x in range(w)]
    expected = [places[raw[n * 3 + 1] % len(places)] for n in range(batch)]
    assert list(zip(draw.image.tolist(), draw.top.tolist(), draw.left.tolist(), strict=True)) == expected
    for shift, flips in ((61, draw.hflip), (62, draw.vflip), (63, draw.transpose)):
        assert flips.tolist() == [bool(raw[n * 3 + 2] >> shift & 1) for n in range(batch)]


SCRIPT = """if True:
    import hashlib, sys, torch
    from safmn.data.packed import PackedPairs
    from safmn.data.patches import PatchSampler
    torch.set_num_threads(int(sys.argv[2]))
    torch.manual_seed(int(sys.argv[2]))
    from safmn.data import draws
    draws.HR_SIDE, draws.HR_STEP = 12, 6
    for draw in ("area", "subimages"):
        with PatchSampler([PackedPairs(sys.argv[1])], 5, 3, 4, 3, draw=draw, resident=sys.argv[3] == "device",
                          ahead=int(sys.argv[4])) as sampler:
            digest = hashlib.sha256()
            for iteration in range(70):
                for part in sampler.batch(iteration):
                    digest.update(part.permute(0, 2, 3, 1).numpy())
        print(digest.hexdigest())
"""


def test_hash_seed_threads_and_back_end_do_not_change_the_batches(stores):
    printed = set()
    for hash_seed, threads, backend, ahead in (("0", 1, "host", 0), ("123", 2, "device", 0), ("random", 3, "host", 3)):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(stores[4][0].path), str(threads), backend, str(ahead)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.add(done.stdout)
    assert len(printed) == 1


# --- the thread ---


def prefetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("patches")]


def test_prefetched_batches_are_the_same_in_any_order(stores):
    plain = PatchSampler(stores[4], 3, 2, 4, 0)
    with PatchSampler(stores[4], 3, 2, 4, 0, ahead=2) as sampler:
        for iteration in [0, 1, 2, 7, 8, 3, 3, 0, 100]:
            for one, other in zip(sampler.batch(iteration), plain.batch(iteration), strict=True):
                assert torch.equal(one, other)
            assert len(prefetching()) == 1
    assert not prefetching()
    sampler.batch(5)  # starts again
    sampler.close()
    sampler.close()
    assert not prefetching()


def test_an_error_in_the_thread_reaches_the_caller(stores, monkeypatch):
    sampler = PatchSampler(stores[4], 3, 2, 4, 0, ahead=2)

    def fail(iteration):
        raise OSError(f"no disk at {iteration}")

    monkeypatch.setattr(sampler._ahead, "_make", fail)
    with pytest.raises(OSError, match="no disk at 3"):
        sampler.batch(3)
    assert not prefetching()


@pytest.mark.gpu
def test_batches_on_a_gpu_are_the_same(stores):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    plain = PatchSampler(stores[4], 6, 3, 4, 0)
    for options in ({}, {"resident": False}, {"resident": False, "ahead": 0}):
        with PatchSampler(stores[4], 6, 3, 4, 0, "cuda", **options) as sampler:
            assert sampler.backend == ("host" if options else "device")
            for iteration in [*range(130), 3, 64]:
                for one, other in zip(sampler.batch(iteration), plain.batch(iteration), strict=True):
                    assert one.is_cuda
                    assert torch.equal(one.cpu(), other)


# --- what does not fit ---


def test_an_image_smaller_than_a_patch_is_named(stores):
    with pytest.raises(UserError, match=r"image patch is 12x12, smaller than an HR patch of 16x16 \(4 of 6") as caught:
        PatchSampler(stores[4], 2, 4, 4, 0)
    check_message(caught.value)
    PatchSampler(stores[4], 2, 3, 4, 0).batch(0)


def test_small_images_can_be_skipped_or_mirrored(stores):
    skipping = PatchSampler(stores[4], 8, 4, 4, 0, small="skip")
    assert skipping.names == ["large", "y"]
    assert skipping.skipped == ["patch", "tall", "wide", "z"]
    with pytest.raises(UserError, match="6 of 6"):
        PatchSampler(stores[4], 2, 99, 4, 0, small="skip")

    mirroring = PatchSampler(stores[4], 64, 4, 4, 0, small="mirror")
    assert (len(mirroring.names), mirroring.skipped) == (6, [])
    resident = PatchSampler(stores[4], 64, 4, 4, 0, small="mirror", resident=True)
    iteration = next(i for i in range(100) if 1 in mirroring.draw(i).image)
    draw, (lr, hr) = mirroring.draw(iteration), mirroring.batch(iteration)
    for one, other in zip(resident.batch(iteration), (lr, hr), strict=True):
        assert torch.equal(one, other)
    n = int(np.flatnonzero(draw.image == 1)[0])  # "patch": 3 x 3 LR, so that a 4th row and column mirror the 3rd
    for image, tensor, scale in ((stores[4][0].lr(1), lr, 1), (stores[4][0].hr(1), hr, 4)):
        continued = np.pad(image, [(0, scale), (0, scale), (0, 0)], mode="symmetric")
        np.testing.assert_array_equal(tensor[n].permute(1, 2, 0).numpy(), sliced(continued, draw, n, 4, scale))


def test_a_store_of_another_scale(stores):
    with pytest.raises(UserError, match="packed for x2, not x4"):
        PatchSampler(stores[2], 2, 2, 4, 0)


@pytest.mark.parametrize(
    "change", [{"batch": 0}, {"patch": 0}, {"seed": -1}, {"seed": 2**64}, {"draw": "x"}, {"small": "x"}]
)
def test_arguments_out_of_range(stores, change):
    arguments = {"batch": 2, "patch": 2, "scale": 4, "seed": 0} | change
    with pytest.raises(ValueError, match=r"out of range|not one of"):
        PatchSampler(stores[4], **arguments)
    with pytest.raises(ValueError, match="negative"):
        PatchSampler(stores[4], 2, 2, 4, 0).draw(-1)


CHANGES = {  # the symmetries of a square, by turning and mirroring
    ("flip", "rotate"): [(turns, mirrored) for turns in range(4) for mirrored in (False, True)],
    ("rotate",): [(turns, False) for turns in range(4)],
    ("flip",): [(0, False), (0, True), (2, False), (2, True)],  # mirrored and turned by 180 degrees: rows reversed
    (): [(0, False)],
}


@pytest.mark.parametrize("augment", CHANGES, ids=str)
@pytest.mark.parametrize("resident", [False, True])
def test_patches_are_changed_by_what_is_asked_for_alone(stores, augment, resident):
    """Each patch is the crop, turned and mirrored by one of the allowed changes; each of them is equally likely."""
    scale, side, batch = 2, 3, 64
    sampler = PatchSampler(stores[scale], batch, side, scale, 7, resident=resident, augment=augment)
    usual = PatchSampler(stores[scale], batch, side, scale, 7)
    all_images = [(store.lr(i), store.hr(i)) for store in stores[scale] for i in range(len(store))]
    counts = dict.fromkeys(CHANGES[augment], 0)
    for iteration in range(10):
        draw = sampler.draw(iteration)
        for name in ("image", "top", "left"):
            np.testing.assert_array_equal(getattr(draw, name), getattr(usual.draw(iteration), name))
        lr, hr = (pixels.permute(0, 2, 3, 1).numpy() for pixels in sampler.batch(iteration))
        for n in range(batch):
            image, top, left = draw.image[n], draw.top[n], draw.left[n]
            corner = [(top * s, left * s, side * s) for s in (1, scale)]
            crops = [all_images[image][k][t : t + p, c : c + p] for k, (t, c, p) in enumerate(corner)]
            fitting = []
            for turns, mirrored in CHANGES[augment]:
                changed = [np.rot90(crop[:, ::-1] if mirrored else crop, turns) for crop in crops]
                if np.array_equal(changed[0], lr[n]) and np.array_equal(changed[1], hr[n]):
                    fitting.append((turns, mirrored))
            assert fitting
            counts[fitting[0]] += 1
    expected = 10 * batch / len(counts)
    assert all(abs(count - expected) < 5 * expected**0.5 + 1 for count in counts.values())


def test_another_word_is_not_known(stores):
    with pytest.raises(ValueError, match="another word"):
        PatchSampler(stores[2], 1, 3, 2, 0, augment=("flop",))
