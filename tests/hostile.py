"""A folder of good images with every kind of trouble among them."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

GOOD, BROKEN, ODD = "good", "broken", "odd"


def texture(seed: int, height: int = 96, width: int = 96) -> np.ndarray:
    """A woven pattern with a little noise: [height, width, 3] uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    weave = 40 * np.sin(rows / 3 + rng.uniform(0, 6)) + 30 * np.sin(columns / 4 + rng.uniform(0, 6))
    noise = rng.normal(0, 6, (height, width, 1))
    return (weave[..., None] + noise + (140, 120, 100)).clip(0, 255).astype(np.uint8)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file that declares its size truly, checksums and all, and holds next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def make_hostile(folder: Path, good: int = 12) -> dict[str, str]:
    """Write `good` good images and the trouble below into `folder`; say of each name what must become of it.

    "good": a plain RGB PNG. "odd": unusual, and has to be used all the same. "broken": cannot be used with a model of
    RGB images; it is to be reported and passed over. Root may read what is forbidden: the fate of `forbidden.png`
    is "odd" for those who can.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fates: dict[str, str] = {}
    for number in range(good):
        height, width = 64 + 17 * number % 137, 64 + 29 * number % 137
        name = f"good_{number:03d}.png"
        (folder / name).write_bytes(encoded(Image.fromarray(texture(number, height, width)), "PNG"))
        fates[name] = GOOD
    for fate, files in ((BROKEN, _broken()), (ODD, _odd())):
        for name, content in files.items():
            (folder / name).write_bytes(content)
            fates[name] = fate
    return fates | _not_plain_files(folder)


def _broken() -> dict[str, bytes]:
    jpeg = encoded(Image.fromarray(texture(50)), "JPEG")
    png = encoded(Image.fromarray(texture(51)), "PNG")
    floats = texture(52).astype(np.float32) / 255
    with_nan = floats.copy()
    with_nan[3, 4, 1] = np.nan
    whole = npy(texture(53))
    return {
        "empty.png": b"",
        "text.png": b"This is no picture.\n",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": png[: len(png) // 2],
        "huge.png": png_header(30_000, 30_000),
        "float.tiff": encoded(Image.fromarray(floats[..., 0]), "TIFF"),
        "pickle.npy": npy(np.array([{"a": 1}, None], dtype=object)),
        "float.npy": npy(floats),
        "nan.npy": npy(with_nan),
        "truncated.npy": whole[: len(whole) // 2],
        "five_channels.npy": npy(np.concatenate([texture(54), texture(55)[..., :2]], axis=2)),
        "four_axes.npy": npy(np.zeros((2, 8, 8, 3), np.uint8)),
        "no_pixels.npy": npy(np.zeros((0, 8, 3), np.uint8)),
        "claims.npy": npy(np.zeros((4, 4, 3), np.uint8)).replace(b"(4, 4, 3), }    ", b"(40000, 40000), }")[:200],
    }


def _odd() -> dict[str, bytes]:
    rgb = Image.fromarray(texture(60))
    grey16 = (texture(61)[..., 0].astype(np.uint16) * 257) ^ 5
    see_through = np.dstack([texture(62), np.arange(96, dtype=np.uint8)[:, None].repeat(96, axis=1)])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    frames = [Image.fromarray(texture(seed)) for seed in (63, 64, 65)]
    return {
        "one_pixel.png": encoded(Image.fromarray(np.full((1, 1, 3), 90, np.uint8)), "PNG"),
        "long.png": encoded(Image.fromarray(texture(66, 3, 400)), "PNG"),
        "deep.tiff": encoded(Image.fromarray(grey16), "TIFF"),
        "deep.png": encoded(Image.fromarray(grey16), "PNG"),
        "grey.bmp": encoded(rgb.convert("L"), "BMP"),
        "cmyk.jpg": encoded(rgb.convert("CMYK"), "JPEG"),
        "alpha.png": encoded(Image.fromarray(see_through), "PNG"),
        "grey_alpha.png": encoded(Image.fromarray(see_through).convert("LA"), "PNG"),
        "palette.png": encoded(rgb.quantize(32), "PNG", transparency=bytes(range(32))),
        "one_bit.png": encoded(rgb.convert("1"), "PNG"),
        "turned.jpg": encoded(Image.fromarray(texture(67, 40, 80)), "JPEG", exif=exif),
        "bad_exif.jpg": encoded(rgb, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\xff\xff"),
        "frames.tiff": encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "frames.webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
        "wrong_suffix.png": encoded(rgb, "JPEG"),
        "UPPER.PNG": encoded(rgb, "PNG"),
        "plain.npy": npy(texture(68)),
        "deep.npy": npy(texture(69).astype(np.uint16) * 257),
        "-dash.png": encoded(rgb, "PNG"),
        "Prüfung 検査 🔧.png": encoded(rgb, "PNG"),
        "two\nlines.png": encoded(rgb, "PNG"),
        os.fsdecode(b"latin_\xe9.png"): encoded(rgb, "PNG"),
    }


def _not_plain_files(folder: Path) -> dict[str, str]:
    """A folder, a pipe, a link that leads nowhere, and a file that may not be read."""
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "lost_link.png").symlink_to(folder / "nowhere.png")
    forbidden = folder / "forbidden.png"
    forbidden.write_bytes(encoded(Image.fromarray(texture(70)), "PNG"))
    forbidden.chmod(0)
    readable = os.access(forbidden, os.R_OK)
    fates = dict.fromkeys(("folder.png", "pipe.png", "lost_link.png"), BROKEN)
    return {**fates, "forbidden.png": ODD if readable else BROKEN}
