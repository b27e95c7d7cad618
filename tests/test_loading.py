"""From samples to arrays: what the images have in common, all of them in order, the broken ones reported."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hostile import BROKEN, make_hostile
from tiny import save, weave

from normbank import images
from normbank.data.cache import Cache
from normbank.data.loading import find_spec, load_all, load_each, ordered_map
from normbank.data.samples import Sample
from normbank.errors import DataError, ImageError
from normbank.images import ImageSpec
from normbank.settings import Data

SETTINGS = Data(size=32)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def samples_of(tmp_path, *arrays):
    return [Sample(str(save(tmp_path / f"{n:03d}.png", array)), 0, "good") for n, array in enumerate(arrays)]


# ---------------------------------------------------------------- what most images have


def test_the_majority_decides_on_channels_and_bits(tmp_path):
    deep = weave(9)[..., 0].astype(np.uint16) * 257
    samples = samples_of(tmp_path, weave(1), weave(2), weave(3)[..., 0], deep)
    assert find_spec(samples, SETTINGS) == ImageSpec(32, 3, 8, "stretch")
    assert find_spec([samples[3]], SETTINGS) == ImageSpec(32, 1, 16, "stretch")
    assert find_spec([samples[2]], SETTINGS) == ImageSpec(32, 1, 8, "stretch")


def test_broken_files_have_no_say(tmp_path):
    samples = samples_of(tmp_path, weave(1)[..., 0])
    (tmp_path / "text.png").write_text("no picture")
    broken = [Sample(str(tmp_path / "text.png"), 0, "good")] * 5
    assert find_spec([*broken, *samples], SETTINGS).channels == 1


def test_settings_overrule_what_is_there(tmp_path):
    samples = samples_of(tmp_path, weave(1))
    given = Data(size=16, channels=1, fit="crop")
    assert find_spec(samples, given) == ImageSpec(16, 1, 8, "crop")
    given = Data(size=16, bits=16)
    assert find_spec(samples, given) == ImageSpec(16, 3, 16, "stretch")


def test_where_both_are_set_nothing_is_opened(tmp_path):
    gone = [Sample(str(tmp_path / "gone.png"), 0, "good")]
    assert find_spec(gone, Data(size=32, channels=3, bits=8)) == ImageSpec(32, 3, 8)


def test_many_channels(tmp_path):
    np.save(tmp_path / "five.npy", np.zeros((8, 8, 5), np.uint16))
    assert find_spec([Sample(str(tmp_path / "five.npy"), 0, "good")], SETTINGS) == ImageSpec(32, 5, 16)


def test_nothing_that_can_be_opened(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"none of the 1 training images can be opened: '.*text.png': is not an image"):
        find_spec([Sample(str(tmp_path / "text.png"), 0, "good")], SETTINGS)
    with pytest.raises(DataError, match="expected training images, got none"):
        find_spec([], SETTINGS)


# ---------------------------------------------------------------- all of them


def test_all_in_order_with_their_digests(tmp_path, cache):
    samples = samples_of(tmp_path, *map(weave, range(150)))  # more than are decoded ahead
    spec, seen = ImageSpec(32, 3, 8), []
    loaded = load_all(samples, spec, cache, seen.append)
    assert loaded.samples == tuple(samples)
    assert loaded.pixels.shape == (150, 32, 32, 3)
    assert loaded.pixels.dtype == np.uint8
    for place in (0, 63, 64, 149):
        assert np.array_equal(loaded.pixels[place], images.load(samples[place].path, spec))
        assert loaded.digests[place] == cache.load(samples[place], spec)[1]
    assert seen == list(range(1, 151))
    assert loaded.skipped == ()


def test_a_hostile_folder_is_survived_and_each_fate_told(tmp_path, cache):
    fates = make_hostile(tmp_path / "hostile")
    samples = [Sample(str(tmp_path / "hostile" / name), 0, "good") for name in sorted(fates)]
    spec = find_spec(samples, SETTINGS)
    assert (spec.channels, spec.bits) == (3, 8)
    for _ in range(2):  # decoded, then from the cache
        loaded = load_all(samples, spec, cache)
        broken = [sample.name for sample in samples if fates[sample.path.rpartition("/")[2]] == BROKEN]
        assert [path for path, _ in loaded.skipped] == broken
        assert [s.name for s in loaded.samples] == [s.name for s in samples if s.name not in broken]
        assert len(loaded.pixels) == len(loaded.samples) == len(loaded.digests)
        assert all(reason for _, reason in loaded.skipped)


def test_strict_stops_at_the_first_that_is_broken(tmp_path, cache):
    fine, *broken = (Sample(str(tmp_path / name), 0, "good") for name in ("a.png", "b.png", "c.png"))
    save(tmp_path / "a.png", weave(1))
    for one in broken:
        (tmp_path / one.path).write_bytes(b"")
    seen = []
    with pytest.raises(ImageError, match=r"b\.png") as caught:
        load_all([fine, *broken, *[fine] * 200], ImageSpec(32, 3, 8), cache, seen.append, strict=True)
    assert (caught.value.path, seen) == (broken[0].name, [1])


def test_none_that_can_be_used_gives_empty_arrays(tmp_path, cache):
    loaded = load_all([Sample(str(tmp_path / "gone.png"), 0, "good")], ImageSpec(32, 1, 16), cache)
    assert loaded.pixels.shape == (0, 32, 32, 1)
    assert loaded.pixels.dtype == np.uint16
    assert loaded.skipped[0].reason == "cannot be read: No such file or directory"


def test_each_comes_with_its_sample_or_its_reason(tmp_path, cache):
    samples = samples_of(tmp_path, weave(1))
    gone = Sample(str(tmp_path / "gone.png"), 1, "spot")
    (first, pixels), (second, reason) = load_each([*samples, gone], ImageSpec(32, 3, 8), cache)
    assert first == samples[0]
    assert pixels[0].shape == (32, 32, 3)
    assert second == gone
    assert isinstance(reason, ImageError)
    assert reason.path == gone.path


# ---------------------------------------------------------------- the stream


def test_ordered_map_keeps_the_order_and_runs_a_little_ahead():
    done = []

    def work(item):
        time.sleep(0.001 * (item % 3))
        done.append(item)
        return -item

    stream = ordered_map(work, range(500))
    assert [next(stream) for _ in range(3)] == [0, -1, -2]
    time.sleep(0.2)
    assert len(done) <= 64 + 3
    assert list(stream) == [-item for item in range(3, 500)]
    assert sorted(done) == list(range(500))


def test_ordered_map_that_is_left_early_does_not_finish_the_rest():
    started, gate = [], threading.Event()

    def work(item):
        started.append(item)
        gate.wait(0 if item == 0 else 5)
        return item

    stream = ordered_map(work, range(60))
    assert next(stream) == 0
    threading.Timer(0.1, gate.set).start()
    stream.close()
    assert len(started) <= 1 + 2 + 2


def test_ordered_map_passes_errors_on():
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda item: 1 // item, [1, 0, 1]))
    assert list(ordered_map(str, [])) == []
