"""The packed store: the same pixels as the files, a fingerprint of contents, damage noticed, nothing half-written."""

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safmn import progress
from safmn.data import images, packed
from safmn.errors import UserError

from .pictures import ODD_NAMES, check_message, edsr_folder, find, read_pair

SIZES = {"b": (17, 22), "a": (16, 12), "c": (9, 31)}


@pytest.fixture
def root(tmp_path) -> Path:
    edsr_folder(tmp_path / "root" / "own", SIZES, scale=4)
    return tmp_path / "root"


def contents(store) -> list[tuple[str, bytes, bytes, tuple, tuple]]:
    return [
        (name, store.lr(i).tobytes(), store.hr(i).tobytes(), store.lr(i).shape, store.hr(i).shape)
        for i, name in enumerate(store.names)
    ]


def beyond(index: dict, kind: str) -> None:
    """Moves the last image's HR or LR so that it ends one pixel behind the last one of `pixels.u8`."""
    block = index["images"][-1][kind]
    block["offset"] = index["bytes"] - int(np.prod(block["shape"])) + 3


def repack(store_path: Path, change) -> None:
    """Applies `change` to the parsed index of a store."""
    index = json.loads((store_path / packed.INDEX).read_text())
    change(index)
    (store_path / packed.INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(("scale", "origin"), [(4, "file"), (3, "bicubic")])
def test_a_store_has_the_pixels_of_the_folder(root, tmp_path, scale, origin):
    store = packed.pack("own", root, scale, tmp_path / "store")
    folder = packed.open_pairs(root / "own", scale)
    assert contents(store) == contents(folder)
    assert store.names == ["a", "b", "c"]
    assert len(store) == len(folder) == 3
    assert store.fingerprint == folder.fingerprint
    for i, pair in enumerate(find(root / "own", scale)):
        lr, hr = read_pair(pair, scale)
        np.testing.assert_array_equal(store.lr(i), lr)
        np.testing.assert_array_equal(store.hr(i), hr)
        assert pair.origin == origin
    assert store.lr_summary == folder.lr_summary
    assert store.lr_summary["made"] == (3 if origin == "bicubic" else 0)
    store.verify()


def test_the_files_are_as_documented(root, tmp_path):
    packed.pack("own", root, 4, tmp_path / "store")
    there = sorted(entry.name for entry in (tmp_path / "store").iterdir())
    assert there == ["index.json", "manifest.json", "pixels.u8"]
    pixels = (tmp_path / "store" / "pixels.u8").read_bytes()
    index = json.loads((tmp_path / "store" / "index.json").read_text())
    expected = b""
    for entry, name in zip(index["images"], ["a", "b", "c"], strict=True):
        hr, lr = root / "own/HR" / f"{name}.png", root / "own/LR_bicubic/X4" / f"{name}x4.png"
        small = images.read(lr)
        large = images.read(hr)[: small.shape[0] * 4, : small.shape[1] * 4]
        place = {"offset": len(expected), "shape": list(large.shape)}
        assert entry["hr"] == place | {"sha256": entry["hr"]["sha256"]}
        expected += large.tobytes() + small.tobytes()
        for kind, file in (("hr", hr), ("lr", lr)):
            assert entry["sources"][kind] == {
                "file": file.name,
                "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
    assert pixels == expected


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_do_not_change_a_byte(root, tmp_path, threads):
    packed.pack("own", root, 4, tmp_path / "a")
    packed.pack("own", root, 4, tmp_path / "b", threads=threads)
    for file in (packed.PIXELS, packed.INDEX):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_selections(root, tmp_path):
    store = packed.pack("own", root, 4, tmp_path / "store")
    folder = packed.open_pairs(root / "own", 4)
    for part in (slice(1, None), slice(None, -1), slice(None, None, 2)):
        selection = store.select(part)
        assert contents(selection) == contents(store)[part]
        assert selection.sha256 == store.sha256[part]
        assert selection.fingerprint == folder.select(part).fingerprint != store.fingerprint
    assert store.select(slice(1, None)).select(slice(1, None)).names == ["c"]
    assert store.select(slice(None)).fingerprint == store.fingerprint
    for pairs_ in (store, folder):
        with pytest.raises(UserError, match=r"\[7:\] selects none of the 3"):
            pairs_.select(slice(7, None))
    assert packed.pack("own[1:]", root, 4, tmp_path / "part").fingerprint == store.select(slice(1, None)).fingerprint


def test_pixels_are_views_that_cannot_be_written(root, tmp_path):
    store = packed.pack("own", root, 4, tmp_path / "store")
    assert np.shares_memory(store.hr(0), store.flat)
    with pytest.raises(ValueError, match="read-only"):
        store.hr(0)[0, 0, 0] = 1


def test_odd_names_and_folders(tmp_path):
    folder = edsr_folder(tmp_path / "a 'b' \"c\" größe;$()", dict.fromkeys(ODD_NAMES, (8, 8)))
    store = packed.pack("mine", None, 2, tmp_path / "o u't" / "store", {"mine": str(folder)})
    assert store.names == sorted(ODD_NAMES)
    assert packed.open_pairs(tmp_path / "o u't" / "store", 2).fingerprint == store.fingerprint


def test_progress_appears_only_when_it_takes_long(root, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "safmn")
    monkeypatch.setattr(progress, "PATIENCE", 2.0)
    packed.pack("own", root, 4, tmp_path / "store")
    assert caplog.text == ""
    clock = iter(range(0, 999, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    packed.pack("own", root, 4, tmp_path / "store")
    assert re.search(r"packing own: 1/3  0\.\d\d images/s  ETA", caplog.text)


def test_a_selection_is_packed_when_it_is_first_wanted(root, tmp_path):
    first = packed.open_selection("own[1:]", 4, tmp_path / "packs", root)
    assert first.names == ["b", "c"]
    assert (tmp_path / "packs/own/x4/index.json").is_file()
    shutil.rmtree(root)
    assert packed.open_selection("own[:1]", 4, tmp_path / "packs", root).names == ["a"]
    with pytest.raises(UserError, match="own is unknown"):
        packed.open_selection("own", 2, tmp_path / "packs", root)


# --- what goes wrong ---


def test_another_scale_is_refused(root, tmp_path):
    packed.pack("own", root, 4, tmp_path / "store")
    with pytest.raises(UserError, match="packed for x4, not x2"):
        packed.open_pairs(tmp_path / "store", 2)


def test_a_failed_pack_leaves_the_older_store(root, tmp_path):
    before = packed.pack("own", root, 4, tmp_path / "store").fingerprint
    good = (root / "own/HR/c.png").read_bytes()
    (root / "own/HR/c.png").write_bytes(good[:-20])
    with pytest.raises(UserError, match=r"HR/c.png is truncated"):
        packed.pack("own", root, 4, tmp_path / "store")
    with pytest.raises(UserError, match=r"HR/c.png is truncated"):
        packed.pack("own", root, 4, tmp_path / "new")
    assert packed.PackedPairs(tmp_path / "store").fingerprint == before
    there = sorted(entry.name for entry in (tmp_path / "store").iterdir())
    assert there == ["index.json", "manifest.json", "pixels.u8"]
    assert list((tmp_path / "new").iterdir()) == []


class Killed(BaseException):
    """What a signal would do: nothing after it runs but what the operating system has."""


@pytest.mark.parametrize("at", ["write", "write_json"])
def test_a_kill_between_pixels_and_index(root, tmp_path, monkeypatch, at):
    """The older index, whose sizes fit the new pixels, must not describe them: other pictures under old hashes."""
    packed.pack("own", root, 4, tmp_path / "store")
    old = images.read(root / "own/HR/a.png")
    images.write(root / "own/HR/a.png", 255 - old)

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(packed.manifest if at == "write" else packed, at, kill)
        with pytest.raises(Killed):
            packed.pack("own", root, 4, tmp_path / "store")
    assert (tmp_path / "store/pixels.u8").read_bytes()[:3] == (255 - old)[0, 0].tobytes()  # these are new
    with pytest.raises(UserError, match="not a finished packed dataset"):
        packed.open_pairs(tmp_path / "store", 4)
    assert packed.open_selection("own", 4, tmp_path / "packs", root).hr(0)[0, 0].tolist() == (255 - old)[0, 0].tolist()


def test_a_full_disk_while_writing(root, tmp_path, monkeypatch):
    real, written = os.pwrite, []

    def fill(descriptor, data, offset):
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(offset)
        return real(descriptor, data[:100], offset)  # a short write, too, which must be continued

    monkeypatch.setattr(os, "pwrite", fill)
    with pytest.raises(UserError, match=r"cannot write .*pixels.u8: No space left"):
        packed.pack("own", root, 4, tmp_path / "store", threads=1)
    assert list((tmp_path / "store").iterdir()) == []


def test_short_writes_are_continued(root, tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real(descriptor, data[:101], offset))
    store = packed.pack("own", root, 4, tmp_path / "store")
    assert contents(store) == contents(packed.open_pairs(root / "own", 4))


def test_the_space_needed_is_compared_with_what_is_free(root, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 100, 100))
    with pytest.raises(UserError, match=r"packing own needs .* MB in .*store"):
        packed.pack("own", root, 4, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda path: (path / "index.json").unlink(), "not a finished packed dataset"),
        (lambda path: (path / "pixels.u8").unlink(), "pixels.u8 cannot be read"),
        (lambda path: os.truncate(path / "pixels.u8", 100), "has 100 bytes instead of"),
        (lambda path: (path / "index.json").write_text("{"), "Invalid JSON"),
        (lambda path: (path / "index.json").write_text("[]"), "damaged"),
        (lambda path: repack(path, lambda index: index.pop("images")), "damaged"),
        (lambda path: repack(path, lambda index: index["images"].pop()), "fingerprint"),
        (lambda path: repack(path, lambda index: index.update(format=99)), "format: Input should be 3"),
        (lambda path: repack(path, lambda index: index["images"][0]["hr"].update(offset=-3)), "images.0.hr.offset"),
        (lambda path: repack(path, lambda index: index["images"][2]["hr"].update(offset=10**9 - 1)), "outside"),
        (lambda path: repack(path, lambda index: beyond(index, "hr")), "c lies outside"),
        (lambda path: repack(path, lambda index: beyond(index, "lr")), "c lies outside"),
        (lambda path: repack(path, lambda index: index.update(bytes=index["bytes"] + 3)), "bytes instead of"),
        (lambda path: repack(path, lambda index: index.update(bytes=index["bytes"] - 3)), "c lies outside"),
        (lambda path: repack(path, lambda index: index.update(border="wrapped")), "border 'wrapped'"),
        (lambda path: repack(path, lambda index: index["images"][0].update(channels=2)), "images.0.channels"),
        (lambda path: repack(path, lambda index: index["images"][0]["lr"].update(shape=[1, 1, 3])), "4 times"),
    ],
)
def test_damaged_stores_are_named(root, tmp_path, spoil, match):
    packed.pack("own", root, 4, tmp_path / "store")
    spoil(tmp_path / "store")
    with pytest.raises(UserError, match=match) as caught:
        packed.open_pairs(tmp_path / "store", 4)
    check_message(caught.value, str(tmp_path / "store"))


@pytest.fixture(scope="module")
def one_store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    edsr_folder(folder / "own", {"a": (8, 8), "b": (12, 8)})
    packed.pack("own", folder, 2, folder / "store")
    return folder / "store"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_tampered_index_is_refused_or_harmless(one_store, tmp_path, data):
    (tmp_path / "pixels.u8").write_bytes((one_store / "pixels.u8").read_bytes())
    index = json.loads((one_store / "index.json").read_text())
    spot = index
    while True:  # replaces one value, anywhere in the tree
        key = data.draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
        if not spot[key] or not isinstance(spot[key], dict | list) or data.draw(st.booleans()):
            spot[key] = data.draw(json_values)
            break
        spot = spot[key]
    (tmp_path / "index.json").write_text(json.dumps(index))
    try:
        store = packed.PackedPairs(tmp_path)
    except UserError as error:
        check_message(error, str(tmp_path))
    else:
        for i in range(len(store)):
            assert store.hr(i).shape[:2] == tuple(side * store.scale for side in store.lr(i).shape[:2])
