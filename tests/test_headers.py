"""How a file is stored, by its header: size, channels, depth."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from tiny import weave

from normbank.decoding import read
from normbank.errors import ImageError, UserError
from normbank.headers import Stored, look_up, stored_as


def test_the_size_in_a_header_is_the_size_that_is_read(tmp_path: Path) -> None:
    picture = Image.fromarray(weave(0)[:20])  # 48 wide, 20 high
    for name in ("a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"):
        picture.save(tmp_path / name)
        assert look_up(tmp_path / name).size == (48, 20) == read(tmp_path / name).shape[1::-1], name
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        picture.save(tmp_path / "turned.jpg", exif=exif)
        assert look_up(tmp_path / "turned.jpg").size == read(tmp_path / "turned.jpg").shape[1::-1]
        assert look_up(tmp_path / "turned.jpg").size == ((20, 48) if orientation > 4 else (48, 20))
    for shape in ((20, 48), (20, 48, 5)):
        np.save(tmp_path / "a.npy", np.zeros(shape, np.uint16))
        assert look_up(str(tmp_path / "a.npy")).size == (48, 20)


def test_the_size_of_a_frame(tmp_path: Path) -> None:
    content = struct.pack(">4I", 2051, 2, 28, 20) + bytes(2 * 28 * 20)
    (tmp_path / "images.gz").write_bytes(gzip.compress(content))
    assert look_up(tmp_path / "images.gz", 1).size == (20, 28)
    with pytest.raises(UserError):
        look_up(tmp_path / "images.gz", 2)


def test_no_pixel_is_decoded_for_a_size(tmp_path: Path) -> None:
    for name in ("cut.png", "cut.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8)).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        assert look_up(tmp_path / name).size == (60, 80)


@pytest.mark.parametrize("name", ["text.png", "text.npy", "empty.jpg", "flat.npy", "missing.png", "."])
def test_what_cannot_be_told_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.jpg").touch()
    np.save(tmp_path / "flat.npy", np.zeros(5, np.uint8))
    with pytest.raises(UserError):
        look_up(tmp_path / name)


def test_no_value_of_an_array_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    shape = (4000, 3000, 5)
    np.lib.format.open_memmap(path, "w+", np.uint16, shape)  # written as a hole
    tracemalloc.start()
    found = look_up(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == Stored((3000, 4000), 5, 16)
    assert peak < 1_000_000


@pytest.mark.parametrize("name", ["cut.npy", "real.npy", "text.npy", "several.npy", "empty.npy", "none.npy"])
def test_what_is_wrong_with_an_array_is_said_as_in_reading(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "cut.npy", np.zeros((20, 48), np.uint8))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-7])
    np.save(tmp_path / "real.npy", np.zeros((20, 48)))
    (tmp_path / "text.npy").write_text("no array")
    with (tmp_path / "several.npy").open("wb") as file:
        np.savez(file, np.zeros(3, np.uint8))
    (tmp_path / "empty.npy").touch()
    np.save(tmp_path / "none.npy", np.zeros((0, 5), np.uint8))
    said = []
    for look in (read, look_up):
        with pytest.raises(ImageError) as told:
            look(tmp_path / name)
        said.append(str(told.value))
    assert said[0] == said[1]


@pytest.mark.parametrize("kind", ["png", "jpg", "tif"])
def test_deep_and_turned(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture = Image.fromarray(weave(0)[:20, :, 0] if kind == "jpg" else weave(0)[:20, :, 0].astype(np.uint16) * 257)
    picture.save(tmp_path / f"a.{kind}", exif=exif)
    assert look_up(tmp_path / f"a.{kind}") == Stored((20, 48), 1, 8 if kind == "jpg" else 16)


def test_a_name_that_no_file_can_have_is_left_to_whoever_decodes_it(tmp_path: Path) -> None:
    """Of a line that scores all day one bad name must not be the end."""
    for name in ("x" * 300 + ".png", "a\0b.png"):
        assert stored_as(tmp_path / name) is None
        with pytest.raises(ImageError):
            look_up(tmp_path / name)


def test_a_picture_of_too_many_pixels_is_not_read_to_its_end_first(tmp_path: Path) -> None:
    Image.fromarray(weave(0)).save(tmp_path / "small.tif")
    content = bytearray((tmp_path / "small.tif").read_bytes())
    first = struct.unpack_from("<I", content, 4)[0] + 2
    for entry in range(first, first + 24, 12):  # width and height are the first two tags
        assert struct.unpack_from("<H", content, entry)[0] in (256, 257)
        struct.pack_into("<HII", content, entry + 2, 4, 1, 30_000)
    (tmp_path / "large.tif").write_bytes(content)
    os.truncate(tmp_path / "large.tif", 200_000_000)  # the rest is a hole
    os.truncate(tmp_path / "small.tif", 100_000_000)
    tracemalloc.start()
    with pytest.raises(ImageError, match="178,000,000 pixels"):
        read(tmp_path / "large.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert read(tmp_path / "small.tif").shape == (48, 48, 3)  # that a file is large is no reason
