"""The cache of decoded images: nothing is decoded twice, nothing goes stale, nothing that is damaged is used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from limits import no_room
from PIL import Image
from tiny import save, weave

from normbank import decoding, images
from normbank.data.cache import Cache, default_folder, open_cache
from normbank.data.samples import Sample
from normbank.errors import DataError, ImageError
from normbank.images import ImageSpec

SPEC = ImageSpec(32, 3, 8)


@pytest.fixture
def sample(tmp_path):
    return Sample(str(save(tmp_path / "images" / "a.png", weave(1))), 0, "good")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def decodes(monkeypatch):
    """The names that were decoded, one for each time."""
    decode, names = decoding.decode, []
    monkeypatch.setattr(decoding, "decode", lambda content, name: names.append(name) or decode(content, name))
    return names


def entries(cache):
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- hits and misses


def test_a_hit_gives_the_same_pixels_without_decoding(cache, sample, decodes):
    first, digest = cache.load(sample, SPEC)
    again, same = cache.load(sample, SPEC)
    assert decodes == [sample.path]
    assert np.array_equal(first, images.load(sample.path, SPEC))
    assert np.array_equal(again, first)
    assert again.dtype == np.uint8
    assert digest == same
    again[:] = 0  # the caller's own
    assert np.array_equal(cache.load(sample, SPEC)[0], first)


def test_the_digest_is_of_the_file(cache, sample):
    import hashlib

    assert cache.load(sample, SPEC)[1] == hashlib.sha256(Path(sample.path).read_bytes()).hexdigest()


def test_a_changed_file_misses(cache, sample, decodes):
    cache.load(sample, SPEC)
    save(Path(sample.path), weave(2))
    assert np.array_equal(cache.load(sample, SPEC)[0], images.load(weave(2), SPEC))
    assert len(decodes) == 2


@pytest.mark.parametrize(
    "other",
    [ImageSpec(16, 3, 8), ImageSpec(32, 1, 8), ImageSpec(32, 3, 16), ImageSpec(32, 3, 8, "pad")],
    ids=["size", "channels", "bits", "fit"],
)
def test_a_changed_setting_misses(cache, sample, decodes, other):
    cache.load(sample, SPEC)
    found, _ = cache.load(sample, other)
    assert len(decodes) == 2
    assert found.shape == (other.size, other.size, other.channels)
    assert found.dtype == other.dtype
    assert np.array_equal(cache.load(sample, other)[0], images.load(sample.path, other))


def test_another_pillow_misses(cache, sample, decodes, monkeypatch):
    cache.load(sample, SPEC)
    monkeypatch.setattr("PIL.__version__", "99.0")
    cache.load(sample, SPEC)
    assert len(decodes) == 2


def test_what_an_earlier_version_kept_is_not_forgotten_and_not_used(cache, sample, decodes):
    cache.load(sample, SPEC)
    (entry,) = entries(cache)
    old = cache.folder / "decoded-3" / entry.parent.name / entry.name
    old.parent.mkdir(parents=True)
    entry.rename(old)
    assert cache.usage()[0] == 1
    cache.load(sample, SPEC)
    assert len(decodes) == 2
    cache.clear()
    assert not old.exists()


def test_the_same_content_under_another_name_hits(cache, sample, decodes, tmp_path):
    cache.load(sample, SPEC)
    copy = tmp_path / "b.PNG"
    copy.write_bytes(Path(sample.path).read_bytes())
    cache.load(Sample(str(copy), 1, "spot"), SPEC)
    assert decodes == [sample.path]


def test_sixteen_bits_are_kept(cache, tmp_path):
    deep = weave(3).astype(np.uint16) * 257 ^ 3
    np.save(tmp_path / "deep.npy", deep)
    spec, sample = ImageSpec(32, 3, 16), Sample(str(tmp_path / "deep.npy"), 0, "good")
    cache.load(sample, spec)
    assert np.array_equal(cache.load(sample, spec)[0], images.load(deep, spec))


def test_a_broken_image_is_not_kept_and_its_file_is_named(cache, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "five.npy", np.zeros((8, 8, 5), np.uint8))
    for name, reason in {"text.png": "not an image", "five.npy": "expected 3 channels", "gone.png": "No such"}.items():
        with pytest.raises(ImageError, match=reason) as caught:
            cache.load(Sample(str(tmp_path / name), 0, "good"), SPEC)
        assert caught.value.path == str(tmp_path / name)
    assert cache.usage() == (0, 0)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("length", [0, 1, 4, 100, 3071, 3075, 3077])
def test_a_cut_or_grown_entry_is_decoded_again(cache, sample, decodes, length):
    first, _ = cache.load(sample, SPEC)
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    assert len(whole) == 32 * 32 * 3 + 4
    entry.write_bytes((whole + b"x")[:length])
    assert np.array_equal(cache.load(sample, SPEC)[0], first)
    assert len(decodes) == 2
    assert entry.read_bytes() == whole  # mended


def test_a_changed_byte_anywhere_is_noticed(cache, sample, decodes):
    first, _ = cache.load(sample, SPEC)
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    places = [*range(0, len(whole), 171), *range(len(whole) - 5, len(whole))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 16
        entry.write_bytes(changed)
        assert np.array_equal(cache.load(sample, SPEC)[0], first)
    assert len(decodes) == 1 + len(places)


def test_a_folder_in_the_place_of_an_entry_is_passed_over(cache, sample):
    first, _ = cache.load(sample, SPEC)
    (entry,) = entries(cache)
    entry.unlink()
    entry.mkdir()
    assert np.array_equal(cache.load(sample, SPEC)[0], first)


# ---------------------------------------------------------------- places that cannot be written


def test_a_folder_that_cannot_be_made_is_passed_over(sample, tmp_path, decodes):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    for _ in range(2):
        assert np.array_equal(cache.load(sample, SPEC)[0], images.load(sample.path, SPEC))
    assert cache.usage() == (0, 0)
    cache.trim()
    cache.clear()


def test_a_full_disk_is_passed_over_and_leaves_nothing(cache, sample):
    with no_room():
        found, _ = cache.load(sample, SPEC)
    assert np.array_equal(found, images.load(sample.path, SPEC))
    assert entries(cache) == []


def test_the_name_of_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match=r"taken: expected a folder, got a file. Set NORMBANK_CACHE"):
        open_cache(tmp_path / "taken")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("NORMBANK_CACHE", str(tmp_path / "mine"))
    assert open_cache().folder == tmp_path / "mine"
    monkeypatch.delenv("NORMBANK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_folder() == tmp_path / "xdg" / "normbank"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "home" / ".cache" / "normbank"


def test_a_user_without_a_home_does_without_a_cache(monkeypatch, sample):
    for name in ("NORMBANK_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory")))
    found, _ = open_cache().load(sample, SPEC)
    assert np.array_equal(found, images.load(sample.path, SPEC))
    assert open_cache().usage() == (0, 0)
    open_cache().trim()
    monkeypatch.setenv("NORMBANK_CACHE", "/somewhere")
    assert default_folder() == Path("/somewhere")


def test_a_home_one_may_not_look_into_does_not_stop_the_run(monkeypatch, sample, tmp_path):
    real = os.stat

    def stat(path, *more, **named):
        if str(path).startswith(str(tmp_path / "closed")):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more, **named)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setenv("NORMBANK_CACHE", str(tmp_path / "closed" / "normbank"))
    assert np.array_equal(open_cache().load(sample, SPEC)[0], images.load(sample.path, SPEC))


# ---------------------------------------------------------------- bounds


def filled(cache, tmp_path, count=5):
    """`count` samples, the first used longest ago."""
    samples = [Sample(str(save(tmp_path / f"{n}.png", weave(n))), 0, "good") for n in range(count)]
    known = set()
    for age, sample in zip(range(count, 0, -1), samples, strict=True):
        cache.load(sample, SPEC)
        (fresh,) = set(entries(cache)) - known
        known.add(fresh)
        os.utime(fresh, (time.time() - 60 * age,) * 2)
    return samples


def test_usage_counts_files_and_bytes(cache, tmp_path):
    filled(cache, tmp_path)
    assert cache.usage() == (5, 5 * 3076)


def test_trim_removes_what_was_used_longest_ago(tmp_path, decodes):
    cache = Cache(tmp_path / "cache", limit=3 * 3076)
    samples = filled(cache, tmp_path)
    cache.load(samples[0], SPEC)  # used just now
    cache.trim()
    assert cache.usage() == (3, 3 * 3076)
    decodes.clear()
    for sample in samples:
        cache.load(sample, SPEC)
    assert decodes == [samples[1].path, samples[2].path]


def test_trim_within_the_bound_removes_nothing(cache, tmp_path):
    filled(cache, tmp_path)
    cache.trim()
    assert cache.usage()[0] == 5


def test_trim_removes_what_a_killed_run_left_and_spares_what_a_running_one_writes(cache, sample):
    cache.load(sample, SPEC)
    (entry,) = entries(cache)
    left, fresh = entry.with_name("left.tmp"), entry.with_name("fresh.tmp")
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (time.time() - 7200,) * 2)
    cache.trim()
    assert entries(cache) == sorted([entry, fresh])


def test_clear_empties_it_and_leaves_other_files(cache, tmp_path):
    filled(cache, tmp_path)
    (cache.folder / "mine.txt").write_text("not the cache's")
    cache.clear()
    assert cache.usage() == (0, 0)
    assert entries(cache) == [cache.folder / "mine.txt"]


def test_a_cache_that_is_not_there_is_empty(tmp_path):
    cache = Cache(tmp_path / "nowhere")
    assert cache.usage() == (0, 0)
    cache.trim()
    cache.clear()


# ---------------------------------------------------------------- sharing

WORKER = """
import sys
from pathlib import Path
from normbank.data.cache import Cache
from normbank.data.samples import Sample
from normbank.images import ImageSpec
cache = Cache(Path(sys.argv[1]), limit=20 * 3076)
paths = sorted(Path(sys.argv[2]).glob("*.png"))
total = 0
for _ in range(5):
    for path in paths:
        total += int(cache.load(Sample(str(path), 0, "good"), ImageSpec(32, 3, 8))[0].sum())
    cache.trim()
print(total)
"""


def test_processes_share_a_cache(tmp_path):
    for number in range(30):
        save(tmp_path / "images" / f"{number}.png", weave(number))
    command = [sys.executable, "-c", WORKER, str(tmp_path / "cache"), str(tmp_path / "images")]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    expected = 5 * sum(int(images.load(weave(n), SPEC).sum()) for n in range(30))
    assert [int(out) for out, _ in told] == [expected, expected]
    assert Cache(tmp_path / "cache").usage()[0] <= 30


def test_frames_of_one_file_are_decoded_with_it(cache, tmp_path):
    frames = np.arange(2 * 28 * 28, dtype=np.uint32).reshape(2, 28, 28).astype(np.uint8)
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28)) + frames.tobytes())
    spec = ImageSpec(28, 1, 8)
    pixels, digest = cache.load(Sample(str(path), 0, "good", frame=1), spec)
    assert np.array_equal(pixels[..., 0], frames[1])
    assert digest != cache.load(Sample(str(path), 0, "good", frame=0), spec)[1]
    assert cache.usage() == (0, 0)
    with pytest.raises(ImageError, match="expected 4 channels") as caught:
        cache.load(Sample(str(path), 0, "good", frame=1), ImageSpec(28, 4, 8))
    assert caught.value.path == f"{path}#1"


def test_a_picture_that_pillow_writes_is_read(cache, tmp_path):
    Image.fromarray(weave(4)[..., 0]).save(tmp_path / "grey.bmp")
    pixels, _ = cache.load(Sample(str(tmp_path / "grey.bmp"), 0, "good"), SPEC)
    assert pixels.shape == (32, 32, 3)
