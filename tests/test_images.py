import io
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hostile import BROKEN, encoded, make_hostile, npy, png_header, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from normbank import decoding, images
from normbank.decoding import decode, read
from normbank.errors import ImageError
from normbank.headers import Stored, look_up
from normbank.images import ImageSpec, fit_square, load, read_mask

TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    return folder, make_hostile(folder)


def values_of(path):
    stored = look_up(path)
    return stored.channels, stored.bits


def deep(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)


def png16(pixels, colour, *chunks):
    """A 16-bit PNG of colour type 0 (grey), 2 (colour), 4 (grey, alpha) or 6 (colour, alpha), written by hand."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def weights(length, size, triangle):
    """[size, length]: how each output pixel is made of input pixels, by the definition of an anti-aliased resize.

    An output pixel looks at the input from its own centre: `triangle` falls linearly to zero at one output pixel's
    width (one input pixel's when enlarging); the box counts the input pixels whose centres lie in the output pixel.
    """
    made = np.zeros((size, length))
    scale = length / size
    for out in range(size):
        centre = (out + 0.5) * scale
        for pixel in range(length):
            away = (pixel + 0.5 - centre) / max(scale, 1)
            made[out, pixel] = max(0.0, 1 - abs(away)) if triangle else float(-0.5 < away <= 0.5)
        made[out] /= made[out].sum()
    return made


def slow_resize(pixels, size, triangle=True):
    rows, columns = (weights(length, size, triangle) for length in pixels.shape[:2])
    return np.einsum("yh,hwc,xw->yxc", rows, pixels.astype(float), columns)


# the hostile folder


def test_the_fate_of_every_hostile_file(hostile):
    folder, fates = hostile
    came = {}
    for name in fates:
        try:
            pixels = load(folder / name, ImageSpec(32, 3, 8)) if name != "pipe.png" else None
        except ImageError:
            came[name] = BROKEN
        else:
            came[name] = BROKEN if pixels is None else fates[name]
            assert pixels is None or (pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8)
    assert came == fates


@pytest.mark.parametrize("begin", [b"II*\0", b"MM\0*"])
def test_a_tiff_that_is_not_read_is_called_one(tmp_path, begin):
    path = tmp_path / "odd.tif"
    path.write_bytes(begin + b"\0" * 40)
    for look in (read, look_up):
        with pytest.raises(ImageError, match=r"is a TIFF that is damaged, or of a layout that is not read \(expected "):
            look(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.png", r"is empty \(0 bytes\)"),
        ("text.png", "is not an image of a known format"),
        ("truncated.jpg", "cannot be decoded as an image: .*truncated"),
        ("truncated.png", "cannot be decoded as an image: .*truncated"),
        ("huge.png", "declares more than 178,000,000 pixels; such images are not decoded"),
        ("float.tiff", "expected integer pixels of 8 or 16 bits, got 32-bit floating point"),
        ("pickle.npy", r"cannot be read as a \.npy array: Object arrays cannot be loaded"),
        ("float.npy", r"expected uint8 or uint16 values, got float32\. Scale to"),
        ("nan.npy", "expected uint8 or uint16 values, got float32"),
        ("truncated.npy", r"cannot be read as a \.npy array"),
        ("claims.npy", r"cannot be read as a \.npy array"),
        ("five_channels.npy", "expected 3 channels, as the model was made for, got 5"),
        ("four_axes.npy", r"expected an image H x W or H x W x C, got shape \(2, 8, 8, 3\)"),
        ("no_pixels.npy", r"got shape \(0, 8, 3\)"),
        ("folder.png", "is not a plain file"),
        ("lost_link.png", "cannot be read: No such file"),
    ],
)
def test_what_is_said_of_a_broken_file(hostile, name, reason):
    folder, _ = hostile
    with pytest.raises(ImageError, match=reason) as caught:
        load(folder / name, ImageSpec(32, 3, 8))
    assert caught.value.path == str(folder / name)
    assert repr(str(folder / name)) in str(caught.value)


def test_a_message_stays_on_one_line_whatever_the_name(tmp_path):
    (tmp_path / "two\nlines.png").write_bytes(b"no")
    with pytest.raises(ImageError) as caught:
        read(tmp_path / "two\nlines.png")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(hostile):
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        read(hostile[0] / "forbidden.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp"])
def test_any_cut_of_a_file_is_an_image_or_an_image_error(suffix):
    kind = {"jpg": "JPEG"}.get(suffix, suffix.upper())
    content = encoded(Image.fromarray(texture(0, 40, 50)), kind)
    for end in range(0, len(content), max(1, len(content) // 60)):
        try:
            assert decode(content[:end], f"x.{suffix}").shape == (40, 50, 3)
        except ImageError:
            continue


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "restart_marker_rows": 1}])
@pytest.mark.parametrize("share", [0.6, 0.9, 0.99])
def test_a_jpeg_whose_rest_is_zeros_is_refused(options, share):
    """So a disk may give what was being written when the power went."""
    whole = jpeg(**options)
    kept = whole[: int(share * len(whole))]
    with pytest.raises(ImageError, match=r"is damaged: a JPEG without its end, whose last [0-9,]+ bytes"):
        decode(kept.ljust(len(whole) + 4096, b"\0"), "x.jpg")


@pytest.mark.parametrize("deep_colour", [False, True])
@pytest.mark.parametrize("parts", [1, 5])
def test_a_png_whose_rest_is_zeros_or_was_changed_is_refused(deep_colour, parts):
    """Pillow does not look at the checksum of the last of its parts, nor for its end."""
    if deep_colour:
        pytest.importorskip("cv2")
    whole = png_of(parts, deep_colour)
    assert decode(whole, "x.png").shape == (40, 50, 3)
    first, last = whole.index(b"IDAT"), whole.index(b"IEND") - 4
    for kept in range(first + 8, last + 8, 97):
        with pytest.raises(ImageError, match=r"is damaged|cannot be decoded"):
            decode(whole[:kept].ljust(len(whole), b"\0"), "x.png")
        changed = bytearray(whole)
        changed[kept] ^= 1
        with pytest.raises(ImageError, match=r"is damaged|cannot be decoded"):
            decode(bytes(changed), "x.png")


@pytest.mark.parametrize("behind", [b"", bytes(5), bytes(12), bytes(400)], ids=len)
def test_of_a_png_the_end_alone_may_be_missing(behind):
    whole = png_of(5, deep_colour=False)
    end = whole.index(b"IEND") - 4
    assert np.array_equal(decode(whole[:end] + behind, "x.png"), decode(whole, "x.png"))
    with pytest.raises(ImageError, match="cannot be decoded as an image"):  # the last of its parts, wholly
        decode(whole[: whole.rindex(b"IDAT") - 4] + behind, "x.png")


def png_of(parts: int, deep_colour: bool) -> bytes:
    """A PNG of 40 x 50 pixels, its pixels in so many parts."""
    whole = png16(deep((40, 50, 3)), 2) if deep_colour else encoded(Image.fromarray(texture(0, 40, 50)), "PNG")
    start = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[start : start + 4], "big")
    content = whole[start + 8 : start + 8 + length]
    size = -(-length // parts)
    cut = b"".join(chunk(b"IDAT", content[place : place + size]) for place in range(0, length, size))
    return whole[:start] + cut + whole[start + length + 12 :]


def test_of_a_jpeg_the_end_of_its_thumbnail_is_not_its_own():
    whole = jpeg(exif=b"Exif\0\0" + jpeg())
    assert np.array_equal(decode(whole, "x.jpg"), decode(jpeg(), "x.jpg"))
    assert np.array_equal(decode(whole + bytes(100), "x.jpg"), decode(jpeg(), "x.jpg"))
    with pytest.raises(ImageError, match="a JPEG without its end, whose last 5,200 bytes are zeros"):
        decode(whole[:-50].rstrip(b"\0") + bytes(5200), "x.jpg")


@pytest.mark.parametrize("behind", [bytes(4096), b"a film \xff\xda" + bytes(64), b"\xff" + bytes(9)])
def test_what_comes_behind_the_end_of_a_jpeg_is_passed_over(behind):
    assert np.array_equal(decode(jpeg() + behind, "x.jpg"), decode(jpeg(), "x.jpg"))


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(texture(0, 40, 50)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_the_decoder_does_not_trust_the_suffix(hostile):
    folder, _ = hostile
    content = (folder / "wrong_suffix.png").read_bytes()
    assert np.array_equal(read(folder / "wrong_suffix.png"), decode(content, "x.jpg"))


def test_of_many_frames_the_first_counts(hostile):
    folder, _ = hostile
    assert np.array_equal(read(folder / "frames.tiff"), texture(63))


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="is 11 x 10 pixels; more than 100 are not decoded"):
        decode(png_header(11, 10), "x.png")
    with pytest.raises(ImageError, match="is 11 x 10 pixels"):
        load(np.zeros((10, 11), np.uint8), ImageSpec(8, 1, 8))
    assert decode(png_header(10, 10), "x.png").shape == (10, 10, 3)


# orientation


@pytest.mark.parametrize("value", TURNS)
def test_exif_orientation_of_8_bit_pictures(value):
    pixels = texture(1, 24, 40)
    content = encoded(Image.fromarray(pixels), "PNG", exif=orientation(value))
    assert np.array_equal(decode(content, "x.png"), TURNS[value](pixels))


@pytest.mark.parametrize("value", TURNS)
def test_exif_orientation_of_16_bit_grey(value):
    pixels = deep((24, 40, 1))
    for kind in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(pixels[..., 0]), kind, exif=orientation(value))
        assert np.array_equal(decode(content, "x"), TURNS[value](pixels)), kind


def test_a_turned_jpeg(hostile):
    folder, _ = hostile
    came = read(folder / "turned.jpg").astype(int)
    assert came.shape == (80, 40, 3)
    assert np.abs(came - np.rot90(texture(67, 40, 80), -1)).mean() < 8


@pytest.mark.parametrize("value", range(2, 9))
def test_exif_orientation_of_16_bit_colour_png(value):
    pytest.importorskip("cv2")
    pixels = deep((24, 40, 3))
    exif = orientation(value).tobytes().removeprefix(b"Exif\0\0")
    assert np.array_equal(decode(png16(pixels, 2, (b"eXIf", exif)), "x.png"), TURNS[value](pixels))


@pytest.mark.parametrize("value", TURNS)
def test_orientation_of_16_bit_colour_tiff(value):
    pytest.importorskip("cv2")
    pixels = deep((24, 40, 3))
    assert np.array_equal(decode(tiff16(pixels, value), "x.tiff"), TURNS[value](pixels))


def tiff16(pixels, turn=1, order="<"):
    """A 16-bit TIFF, one strip, written by hand; `order` is the byte order."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    depths = struct.pack(order + "H" * channels, *[16] * channels) if channels > 2 else b""
    short = {"<": 0, ">": 16}[order]  # a short stands in the first bytes of its field
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, 8 + len(data) if depths else 16 << short),
        (259, 3, 1, 1 << short),
        (262, 3, 1, (2 if channels == 3 else 1) << short),
        (273, 4, 1, 8),
        (274, 3, 1, turn << short),
        (277, 3, 1, channels << short),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    fields = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    start = struct.pack(f"{order}I", 8 + len(data) + len(depths))
    return mark + start + data + depths + struct.pack(f"{order}H", len(entries)) + fields + bytes(4)


def tiff_of(channels, extra):
    """An 8-bit TIFF of colour and `channels` - 3 more, each of the kind `extra` (0: neither colour nor alpha)."""
    count, data = channels - 3, bytes(8 * 8 * channels)
    depths, kinds = struct.pack(f"<{channels}H", *[8] * channels), struct.pack(f"<{count}H", *[extra] * count)
    at = 8 + len(data)
    entries = [
        (256, 4, 1, 8),
        (257, 4, 1, 8),
        (258, 3, channels, at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, 8),
        (279, 4, 1, len(data)),
        (338, 3, count, at + len(depths) if count > 2 else int.from_bytes(kinds, "little")),
    ]
    fields = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = struct.pack("<I", at + len(depths) + len(kinds))
    return b"II*\0" + start + data + depths + kinds + struct.pack("<H", len(entries)) + fields + bytes(4)


@pytest.mark.parametrize(("channels", "extra"), [(4, 0), (5, 0), (6, 0)])
def test_channels_that_cannot_be_read_are_not_passed_over(tmp_path, channels, extra):
    (tmp_path / "many.tif").write_bytes(tiff_of(channels, extra))
    for reading in (read, look_up):
        with pytest.raises(
            ImageError, match=rf"many\.tif.*holds {channels} channels, of which 3 can be read\. Save all"
        ):
            reading(tmp_path / "many.tif")


@pytest.mark.parametrize("depth", [np.int8, np.uint8])
def test_the_sign_of_a_tiff_is_not_passed_over(tmp_path, depth):
    values = np.arange(-32, 32, dtype=np.int8).view(depth).reshape(8, 8)
    picture = Image.fromarray(values.view(np.uint8))
    picture.save(tmp_path / "a.tif", tiffinfo={339: 2 if depth is np.int8 else 1})
    for reading in (read, look_up):
        if depth is np.uint8:
            reading(tmp_path / "a.tif")
        else:
            with pytest.raises(ImageError, match=r"a\.tif': holds signed values of 8 bits, which are not read\. Save"):
                reading(tmp_path / "a.tif")


@pytest.mark.parametrize("extra", [1, 2])
def test_the_alpha_of_a_tiff_is_no_channel(extra):
    assert decode(tiff_of(4, extra), "alpha.tif").shape == (8, 8, 3)


# depth


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_depth(tmp_path, kind):
    pixels = deep((20, 30, 1))
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(encoded(Image.fromarray(pixels[..., 0]), kind))
    assert read(path).dtype == np.uint16
    assert np.array_equal(read(path), pixels)
    assert values_of(path) == (1, 16)


@pytest.mark.parametrize("order", "<>")
def test_16_bit_grey_tiff_of_both_byte_orders(order):
    pixels = deep((20, 30, 1))
    assert np.array_equal(decode(tiff16(pixels, order=order), "x.tiff"), pixels)


def test_16_bit_grey_of_which_0_is_white():
    tifffile = pytest.importorskip("tifffile")
    pixels, buffer = deep((20, 30)), io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="miniswhite")
    assert np.array_equal(decode(buffer.getvalue(), "x.tiff")[..., 0], 65535 - pixels)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_colour_in_planes_is_not_read_as_something_else(tmp_path, channels, compression):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "planes.tif"
    planes = deep((channels, 20, 30))
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", compression=compression)
    for reading in (read, look_up):
        with pytest.raises(ImageError, match=rf"planes\.tif.*{channels} deep channels, each in a plane.*\.npy"):
            reading(path)
    tifffile.imwrite(path, (planes >> 8).astype(np.uint8), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read(path), np.moveaxis(planes >> 8, 0, 2)[..., :3])


def test_a_bmp_of_16_bits_a_pixel_has_8_bits_a_value(tmp_path):
    """Five bits of red, six of green, five of blue, as cameras write it."""
    header = struct.pack("<2sIHHI", b"BM", 14 + 40 + 12 + 8, 0, 0, 14 + 40 + 12)
    header += struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    rows = struct.pack("<HHHH", 0xFFFF, 0xF800, 0x07E0, 0x001F)  # from the bottom up
    (tmp_path / "x.bmp").write_bytes(header + masks + rows)
    assert values_of(tmp_path / "x.bmp") == (3, 8)
    came = read(tmp_path / "x.bmp")
    assert came.dtype == np.uint8
    assert came.tolist() == [[[0, 255, 0], [0, 0, 255]], [[255, 255, 255], [255, 0, 0]]]


@pytest.mark.parametrize("order", "<>")
def test_16_bit_colour_tiff_of_both_byte_orders(order):
    pytest.importorskip("cv2")
    pixels = deep((20, 30, 3))
    assert np.array_equal(decode(tiff16(pixels, order=order), "x.tiff"), pixels)


def test_16_bit_colour_png_through_opencv(tmp_path):
    pytest.importorskip("cv2")
    pixels = deep((20, 30, 3))
    (tmp_path / "x.png").write_bytes(png16(pixels, 2))
    assert np.array_equal(read(tmp_path / "x.png"), pixels)
    assert values_of(tmp_path / "x.png") == (3, 16)
    with_alpha = np.dstack([pixels, deep((20, 30), 1)])
    assert np.array_equal(decode(png16(with_alpha, 6), "x.png"), pixels)


def test_16_bit_grey_with_alpha_keeps_its_depth(tmp_path):
    pytest.importorskip("cv2")
    pixels = deep((20, 30, 2))
    (tmp_path / "x.png").write_bytes(png16(pixels, 4))
    grey = load(tmp_path / "x.png", ImageSpec(20, 1, 16, "crop"))
    assert np.array_equal(grey[..., 0], pixels[:, 5:25, 0])


def test_16_bit_colour_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImageError, match=r"16-bit colour needs OpenCV.*pip install '\.\[deep\]'"):
        decode(png16(deep((4, 5, 3)), 2), "x.png")
    assert decode(png16(deep((4, 5)), 0), "x.png").dtype == np.uint16
    assert decode(encoded(Image.fromarray(texture(0)), "PNG"), "x.png").dtype == np.uint8


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_cut_16_bit_colour_png_is_refused(share):
    pytest.importorskip("cv2")
    content = png16(deep((40, 50, 3)), 2)
    with pytest.raises(ImageError):
        decode(content[: int(len(content) * share)], "x.png")


def test_a_16_bit_png_whose_part_says_to_be_gigabytes_long_is_refused_unread(monkeypatch):
    cv2 = pytest.importorskip("cv2")
    content = bytearray(png16(deep((40, 50, 3)), 2))
    content[content.index(b"IDAT") - 4] = 0x7F
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("OpenCV makes room for all of it"))
    with pytest.raises(ImageError, match="damaged or cut short: one of its parts is longer than the file"):
        decode(bytes(content), "x.png")


def test_what_comes_behind_the_end_of_a_16_bit_png_is_passed_over():
    pytest.importorskip("cv2")
    pixels = deep((40, 50, 3))
    assert np.array_equal(decode(png16(pixels, 2) + b"a camera's own notes", "x.png"), pixels)


def test_8_to_16_bits_and_back():
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    up = load(every, ImageSpec(16, 1, 16))
    assert up.dtype == np.uint16
    assert np.array_equal(up[..., 0], every.astype(int) * 257)
    assert np.array_equal(load(up, ImageSpec(16, 1, 8))[..., 0], every)


def test_16_to_8_bits_rounds():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    came = load(every, ImageSpec(256, 1, 8))[..., 0]
    assert [round(int(value) / 257) for value in every[::7].flat] == came[::7].ravel().tolist()


def test_a_16_bit_image_is_resized_at_its_depth():
    pixels = deep((37, 23, 2))
    came = load(pixels, ImageSpec(9, 2, 16))
    assert np.abs(came - slow_resize(pixels, 9)).max() < 0.51
    assert came.dtype == np.uint16


# what the header says


def test_the_header_agrees_with_what_is_read(hostile):
    folder, fates = hostile
    for name, fate in fates.items():
        if fate == BROKEN or name == "bad_exif.jpg":
            continue
        pixels = read(folder / name)
        height, width, channels = pixels.shape
        assert look_up(folder / name) == Stored((width, height), channels, 8 * pixels.dtype.itemsize), name


@pytest.mark.parametrize("name", ["empty.png", "text.png", "folder.png", "lost_link.png", "pickle.npy", "float.npy"])
def test_the_header_of_a_broken_file(hostile, name):
    with pytest.raises(ImageError, match=name):
        look_up(hostile[0] / name)


# non-square images


def test_fit_square_by_hand():
    wide = np.arange(10).reshape(2, 5, 1)
    first, second = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
    assert fit_square(wide, "pad")[..., 0].tolist() == [first, first, second, second, second]
    assert fit_square(wide, "pad", edge=False)[..., 0].tolist() == [[0] * 5, first, second, [0] * 5, [0] * 5]
    assert fit_square(wide, "crop")[..., 0].tolist() == [[1, 2], [6, 7]]
    assert fit_square(wide, "stretch") is wide
    tall = wide.swapaxes(0, 1)
    for fit in ("pad", "crop"):
        assert np.array_equal(fit_square(tall, fit), fit_square(wide, fit).swapaxes(0, 1))
    square = wide[:, :2]
    for fit in ("pad", "crop", "stretch"):
        assert np.array_equal(fit_square(square, fit), square)


def test_a_line_scan_is_padded_without_filling_the_memory():
    """Its square would hold 6,400 million pixels."""
    strip = np.zeros((400, 80_000, 1), np.uint8)
    strip[:, 40_000:] = 200
    square = fit_square(strip, "pad")
    assert square.shape == (8192, 8192, 1)
    assert set(np.unique(square[:, :4090])) == {0}
    assert set(np.unique(square[:, 4100:])) == {200}
    mask = fit_square(strip, "pad", edge=False)
    assert (mask > 0).sum() == pytest.approx(41 * 4096, rel=0.01)
    assert load(strip, ImageSpec(32, 1, 8, "pad")).mean() == pytest.approx(100, abs=3)


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(31, 50, 3), (50, 31, 1), (40, 40, 3), (7, 90, 3), (5, 6, 3)])
@pytest.mark.parametrize("size", [16, 33])
def test_load_against_the_slow_resize(shape, size, fit):
    pixels = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
    came = load(pixels, ImageSpec(size, shape[2], 8, fit)).astype(float)
    expected = slow_resize(fit_square(pixels, fit), size)
    assert np.abs(came - expected).max() <= 1.0  # rows and columns are rounded one after the other
    assert abs((came - expected).mean()) < 0.1


def test_stretch_by_hand():
    """Halving 4 columns: the centres lie 1/4, 1/4 and 3/4 of an output pixel away, so the weights are 3, 3 and 1."""
    row = np.array([[0, 70, 140, 210]], np.uint8).repeat(2, axis=0)
    came = load(row, ImageSpec(2, 1, 8))[..., 0]
    assert came.tolist() == [[50, 160], [50, 160]]  # (3*0 + 3*70 + 140) / 7, (70 + 3*140 + 3*210) / 7


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([1, 2, 3, 5]),
    st.integers(0, 65535),
    st.sampled_from([8, 16]),
    st.sampled_from(["stretch", "pad", "crop"]),
    st.integers(1, 40),
)
def test_a_constant_image_stays_constant(height, width, channels, value, bits, fit, size):
    dtype = np.uint8 if value < 256 else np.uint16
    came = load(np.full((height, width, channels), value, dtype), ImageSpec(size, channels, bits, fit))
    expected = {
        (np.uint8, 8): value,
        (np.uint8, 16): value * 257,
        (np.uint16, 16): value,
        (np.uint16, 8): round(value / 257),
    }
    assert came.shape == (size, size, channels)
    assert came.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (came == expected[dtype, bits]).all()


# channels


def test_grey_and_colour_by_hand():
    grey = np.full((4, 4), 77, np.uint8)
    assert (load(grey, ImageSpec(4, 3, 8)) == 77).all()
    colour = np.full((4, 4, 3), (100, 150, 200), np.uint8)
    assert (load(colour, ImageSpec(4, 1, 8)) == 141).all()  # 29.9 + 88.05 + 22.8
    deep_colour = np.full((4, 4, 3), (10_000, 20_000, 60_000), np.uint16)
    assert (load(deep_colour, ImageSpec(4, 1, 16)) == 21_570).all()  # 2,990 + 11,740 + 6,840


def test_colour_to_grey_is_pillows_luminance():
    pixels = np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pillows = np.asarray(Image.fromarray(pixels).convert("L")).astype(int)
    assert np.abs(load(pixels, ImageSpec(32, 1, 8))[..., 0] - pillows).max() <= 1


@pytest.mark.parametrize(("came", "wanted"), [(5, 3), (3, 5), (2, 1), (1, 4), (4, 3)])
def test_other_counts_have_to_match(came, wanted):
    channels = "channel" if wanted == 1 else "channels"
    with pytest.raises(ImageError, match=rf"'array': expected {wanted} {channels}, .*got {came}"):
        load(np.zeros((8, 8, came), np.uint8), ImageSpec(8, wanted, 8))


def test_many_channels_are_kept_apart():
    pixels = np.random.default_rng(3).integers(0, 256, (30, 41, 7), dtype=np.uint8)
    came = load(pixels, ImageSpec(12, 7, 8))
    alone = [load(pixels[..., c], ImageSpec(12, 1, 8))[..., 0] for c in range(7)]
    assert np.abs(came.astype(int) - np.stack(alone, axis=2)).max() <= 1


def test_alpha_palette_one_bit_and_cmyk(hostile):
    folder, _ = hostile
    assert np.array_equal(read(folder / "alpha.png"), texture(62))
    assert read(folder / "grey_alpha.png").shape == (96, 96, 1)
    assert set(np.unique(read(folder / "one_bit.png"))) == {0, 255}
    assert np.abs(read(folder / "palette.png").astype(int) - texture(60)).mean() < 12
    assert np.abs(read(folder / "cmyk.jpg").astype(int) - texture(60)).mean() < 12


# arrays and files


def test_a_file_and_its_pixels_give_the_same(hostile):
    folder, fates = hostile
    for name in [name for name, fate in fates.items() if fate != BROKEN]:
        for spec in (ImageSpec(32, 3, 8), ImageSpec(24, 1, 16, "pad"), ImageSpec(40, 3, 8, "crop")):
            from_file = load(folder / name, spec)
            assert np.array_equal(from_file, load(read(folder / name), spec)), name
            assert np.array_equal(from_file, load(str(folder / name), spec)), name


def test_the_layout_of_an_array_in_memory_does_not_matter():
    pixels = texture(4, 50, 61)
    spec = ImageSpec(32, 3, 8, "crop")
    expected = load(pixels, spec)
    backwards, inside = pixels[::-1, ::-1].copy()[::-1, ::-1], np.dstack([pixels, pixels])[..., :3]
    for same in (np.asfortranarray(pixels), backwards, inside):
        assert np.array_equal(load(same, spec), expected)


def test_an_array_is_not_changed():
    pixels = texture(5)
    before = pixels.copy()
    load(pixels, ImageSpec(32, 1, 16))
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((4, 4), np.float32), "expected uint8 or uint16 values, got float32"),
        (np.zeros((4, 4), np.int64), "got int64"),
        (np.zeros((4, 4), bool), "got bool"),
        (np.zeros(4, np.uint8), r"got shape \(4,\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"got shape \(1, 4, 4, 3\)"),
        (np.zeros((4, 0), np.uint8), r"got shape \(4, 0, 1\)"),
    ],
)
def test_arrays_that_are_no_images(array, reason):
    with pytest.raises(ImageError, match=f"'array': .*{reason}"):
        load(array, ImageSpec(8, 1, 8))


# masks


def write_mask(path, mask):
    Image.fromarray((np.asarray(mask) * 255).astype(np.uint8)).save(path)
    return path


def test_a_mask_by_hand(tmp_path):
    """A quarter is good, a half and more defective: nine cells of 2 x 2."""
    mask = [
        [0, 0, 1, 0, 1, 1],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 1, 1, 1, 1],
        [0, 1, 1, 0, 1, 1],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 0, 1, 0, 0],
    ]
    came = read_mask(write_mask(tmp_path / "m.png", mask), 3)
    assert came.dtype == bool
    assert came.tolist() == [[False, False, True], [True, True, True], [True, False, False]]


@pytest.mark.parametrize("shape", [(40, 40), (31, 50), (90, 17), (8, 8)])
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_masks_against_the_slow_box(tmp_path, shape, fit):
    mask = np.random.default_rng(6).random(shape) < 0.45
    square = fit_square(mask[..., None], fit, edge=False)
    expected = slow_resize(square, 13, triangle=False)[..., 0]
    came = read_mask(write_mask(tmp_path / "m.png", mask), 13, fit)
    clear = np.abs(expected - 0.5) > 1e-6
    assert np.array_equal(came[clear], expected[clear] > 0.5)
    assert came[~clear].all()


def test_masks_do_not_shrink(tmp_path):
    mask = np.zeros((384, 384))
    mask[100:200, 60:260] = 1
    came = read_mask(write_mask(tmp_path / "m.png", mask), 128)
    assert came.sum() == 34 * 67 - 2  # 33 1/3 to 66 2/3, 20 to 86 2/3: border pixels hold 2/3, two corners 4/9


@pytest.mark.parametrize("save", [{"mode": "1"}, {"mode": "RGB"}, {"mode": "P"}, {"mode": "RGBA"}, {"scale": 1}])
def test_any_value_above_zero_is_defective(tmp_path, save):
    mask = np.zeros((16, 16), np.uint8)
    mask[4:8, 4:12] = save.get("scale", 255)
    Image.fromarray(mask).convert(save.get("mode", "L")).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", 16), mask > 0)


def test_every_colour_of_a_palette_but_black_is_a_kind_of_defect(tmp_path):
    kinds = np.zeros((16, 16), np.uint8)
    kinds[2:6, 2:6], kinds[8:14, 8:14] = 1, 8
    mask = Image.fromarray(kinds, "P")
    mask.putpalette([0, 0, 0, 128, 0, 0] + [0] * 18 + [64, 0, 0])  # as VOC numbers them
    mask.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", 16), kinds > 0)


@pytest.mark.parametrize(
    ("mask", "image"),
    [
        ((40, 20), (40, 20)),
        ((20, 10), (41, 20)),
        ((10, 10), (500, 497)),
        ((80, 40), (40, 20)),
        ((3, 2), (1024, 768)),
        ((4000, 2672), (400, 267)),
        ((2048, 1365), (256, 171)),
        ((4032, 3025), (403, 302)),
        ((2592, 1944), (341, 256)),
    ],
)
def test_a_mask_may_be_smaller_or_larger_than_its_image(tmp_path, mask, image):
    for name, size in (("mask.png", mask), ("image.png", image)):
        Image.new("L", size, 255).save(tmp_path / name)
    assert read_mask(tmp_path / "mask.png", 8, image=tmp_path / "image.png").all()


@pytest.mark.parametrize(("mask", "image"), [((48, 20), (48, 48)), ((20, 40), (40, 20)), ((256, 256), (1024, 768))])
def test_a_mask_of_another_shape_is_not_that_of_its_image(tmp_path, mask, image):
    for name, size in (("mask.png", mask), ("image.png", image)):
        Image.new("L", size, 255).save(tmp_path / name)
    said = rf"mask\.png.*is {mask[0]} x {mask[1]} pixels, its image {image[0]} x {image[1]}: expected the same shape"
    with pytest.raises(ImageError, match=said):
        read_mask(tmp_path / "mask.png", 8, image=tmp_path / "image.png")


def test_a_mask_is_drawn_on_the_image_as_it_is_shown(tmp_path):
    for kind in ("png", "jpg", "tiff"):
        image = tmp_path / f"image.{kind}"
        Image.new("L", (40, 20)).save(image, exif=orientation(6))
        Image.new("L", (20, 40), 255).save(tmp_path / "mask.png")
        assert look_up(image).size == (20, 40)
        assert read_mask(tmp_path / "mask.png", 8, image=image).all(), kind
        Image.new("L", (40, 20), 255).save(tmp_path / "mask.png")
        with pytest.raises(ImageError, match="its image 20 x 40"):
            read_mask(tmp_path / "mask.png", 8, image=image)


def test_an_image_that_no_memory_is_left_to_convert_cannot_be_used(monkeypatch):
    def full(pixels, *_):
        raise MemoryError

    monkeypatch.setattr(images, "_to_channels", full)
    with pytest.raises(ImageError, match=r"array': takes more memory to convert than there is"):
        load(np.zeros((4, 4, 3), np.uint8), ImageSpec(4, 1, 8))


def test_colour_becomes_grey_a_few_rows_at_a_time():
    colour = np.random.default_rng(0).integers(0, 256, (2500, 301, 3)).astype(np.uint8)
    tracemalloc.start()
    grey = load(colour, ImageSpec(64, 1, 8, "crop"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * colour.shape[0] * colour.shape[1]  # bytes a pixel; 8 a value were 32
    whole = np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    assert (grey == load(whole, ImageSpec(64, 1, 8, "crop"))).all()


def test_an_image_for_which_there_is_no_memory_is_an_image_that_cannot_be_used(monkeypatch):
    def convert(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(ImageError, match=r"x\.png': takes more memory to decode than there is"):
        decode(encoded(Image.fromarray(texture(0)), "PNG"), "x.png")


def test_a_file_for_which_there_is_no_memory_is_an_image_that_cannot_be_used(tmp_path, monkeypatch):
    def opened(*_):
        raise MemoryError

    path = tmp_path / "x.png"
    path.write_bytes(encoded(Image.fromarray(texture(0)), "PNG"))
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(ImageError, match=r"x\.png': takes more memory to read than there is"):
        read(path)


def test_a_broken_mask_is_named(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"m\.png"):
        read_mask(tmp_path / "m.png", 8)


# what a decoder may not do to its surroundings


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match="is not a plain file"):
        look_up(pipe)
    came = []

    def attempt():
        try:
            read(pipe)
        except ImageError as error:
            came.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(2)
    if thread.is_alive():
        with open(pipe, "wb"):  # let it go
            pass
        thread.join()
        pytest.fail("it waited for the pipe")
    assert "not a plain file" in str(came[0])


def test_big_endian_arrays():
    pixels = deep((12, 12, 3))
    assert np.array_equal(decode(npy(pixels.astype(">u2")), "x.npy"), pixels)
    assert decode(npy(pixels.astype(">u2")), "x.npy").dtype == np.uint16


def test_an_array_of_truths_is_black_and_white(tmp_path: Path) -> None:
    """As a picture of one bit is: what NumPy's comparisons give is a mask."""
    truth = np.indices((16, 16)).sum(axis=0) % 5 == 0
    assert np.array_equal(decode(npy(truth), "x.npy")[..., 0], np.where(truth, np.uint8(255), np.uint8(0)))
    (tmp_path / "mask.npy").write_bytes(npy(truth))
    assert np.array_equal(read_mask(tmp_path / "mask.npy", 16), truth)
    assert look_up(tmp_path / "mask.npy") == Stored((16, 16), 1, 8)


def test_messages_are_the_same_in_every_run(hostile):
    with pytest.raises(ImageError) as caught:
        read(hostile[0] / "text.png")
    assert " object at 0x" not in str(caught.value)


def test_decoding_on_threads_leaves_the_warning_filters_alone():
    content = encoded(Image.fromarray(texture(1, 200, 200)), "JPEG")
    with warnings.catch_warnings():
        before = list(warnings.filters)
        for _ in range(5):
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: decode(content, "x.jpg"), range(150)))
        assert warnings.filters == before


def test_the_header_does_not_warn_of_odd_metadata(hostile):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values_of(hostile[0] / "bad_exif.jpg") == (3, 8)


def test_pillows_own_limit_is_left_as_it_was():
    code = "from PIL import Image as I; n = I.MAX_IMAGE_PIXELS; import normbank.images; print(n == I.MAX_IMAGE_PIXELS)"
    came = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert came.stdout.strip() == "True"


def test_a_jpeg_mask_does_not_grow(tmp_path):
    truth = np.zeros((64, 64), np.uint8)
    truth[20:28, 30:38] = 255
    Image.fromarray(truth).save(tmp_path / "mask.jpg", quality=75)
    assert (np.asarray(Image.open(tmp_path / "mask.jpg")) > 0).sum() > 64  # what the ripples would add
    assert np.array_equal(read_mask(tmp_path / "mask.jpg", 64), truth > 0)


def test_a_mask_may_number_kinds_of_defects(tmp_path):
    truth = np.zeros((16, 16), np.uint8)
    truth[1:5, 1:5], truth[6:10, 1:5], truth[11:15, 1:5] = 1, 2, 64
    Image.fromarray(truth).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", 16), truth > 0)
    Image.fromarray(np.where(truth == 64, 65, truth).astype(np.uint8)).save(tmp_path / "grey.png")
    assert np.array_equal(read_mask(tmp_path / "grey.png", 16), truth == 64)


@pytest.mark.parametrize("high", [1, 255])
def test_a_mask_of_ones_is_read_like_one_of_255(tmp_path, high):
    truth = np.zeros((16, 16), np.uint8)
    truth[4:8, 4:12] = high
    Image.fromarray(truth).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", 16), truth > 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_are_reduced_to_rounded_means(dtype):
    image = np.array([[[0], [1], [9], [9]], [[1], [0], [9], [8]], [[255]] * 4, [[255]] * 4], dtype)
    small = images.reduced(image[None], 2)
    assert small.dtype == dtype
    assert small[0, ..., 0].tolist() == [[1, 9], [255, 255]]  # 0.5 and 8.75
    np.testing.assert_array_equal(images.reduced(image[None], 1)[0], image)


def test_reducing_stays_within_the_type():
    white = np.full((2, 8, 8, 3), 65535, np.uint16)
    assert (images.reduced(white, 4) == 65535).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_whose_shape_is_in_its_transparency_is_refused(tmp_path: Path, mode: str, value: int) -> None:
    mask = np.full((8, 8, len(mode)), value, np.uint8)
    mask[..., -1] = 0
    mask[2:5, 2:5, -1] = 255
    Image.fromarray(mask, mode).save(tmp_path / "mask.png")
    with pytest.raises(ImageError, match="keeps its shape in its transparency, which is not read"):
        read_mask(tmp_path / "mask.png", 8)
    mask[..., -1] = 255
    Image.fromarray(mask, mode).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png", 8).all() == bool(value)
