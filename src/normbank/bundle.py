"""The detector file: one zip archive, no pickle.

Members: `manifest.json` (format version, settings, calibration, what it was trained on, versions),
`weights.safetensors`, `model.onnx`. The archive's comment holds the SHA-256 of everything before it, so that one
changed byte anywhere is noticed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import secrets
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BundleError

FORMAT_VERSION = 1
_MARK = b"normbank sha256 "
_COMMENT_LENGTH = len(_MARK) + 64


@dataclass(frozen=True)
class Bundle:
    """The parts of a detector file, as bytes where they are not JSON."""

    manifest: dict[str, Any]
    weights: bytes
    graph: bytes


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write the file in one piece: it is either whole at `path` or not there."""
    manifest = {"format_version": FORMAT_VERSION, **bundle.manifest}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = b" " * _COMMENT_LENGTH
        _add(archive, "manifest.json", json.dumps(manifest, indent=1, allow_nan=False).encode())
        _add(archive, "weights.safetensors", bundle.weights)
        _add(archive, "model.onnx", bundle.graph)
    content = buffer.getvalue()[:-_COMMENT_LENGTH]
    write_atomically(path, content + _MARK + hashlib.sha256(content).hexdigest().encode())


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), content)  # same parts, same bytes


def write_atomically(path: Path, content: bytes, *, through_link: bool = False) -> None:
    """Write beside the target and rename: the file is whole or as it was. BundleError names the path where that fails.

    A pipe or a device (/dev/stdout) is written to, never replaced. A link is replaced, or with `through_link`, for a
    name that the user gave, what it leads to.
    """
    write_together({path: content}, through_link=through_link)


def write_together(files: Mapping[Path, bytes], *, through_link: bool = False) -> None:
    """Several files, each as `write_atomically` has it: none is replaced before all are on the disk."""
    with contextlib.ExitStack() as stack:
        staged = {}
        for path, content in files.items():
            with _failures_named(path):
                if not _is_special(path):
                    target = _in_its_folder(path, through_link)
                    staged[path] = _staged(target, content, stack), target
        for path, content in files.items():
            with _failures_named(path):
                if path in staged:
                    os.replace(*staged[path])
                else:
                    _write_through(path, content)


def _staged(path: Path, content: bytes, stack: contextlib.ExitStack) -> Path:
    """A temporary file beside `path` that holds the content, gone when the stack ends."""
    temporary = stack.enter_context(_temporary(path.parent))
    with open(temporary, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return temporary


def _write_through(path: Path, content: bytes) -> None:
    """Standard output by its own descriptor: where it is a file, another one would write over what is printed."""
    if not is_stdout(path):
        path.write_bytes(content)
        return
    if sys.stdout:
        sys.stdout.flush()
    with open(1, "wb", closefd=False) as file:
        file.write(content)


def is_stdout(path: Path) -> bool:
    """Whether that path leads to where standard output does."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:  # it is closed, or there is nothing there
        return False


def ensure_writable(path: Path, *, through_link: bool = False) -> None:
    """Make the folder of `path` and try a file in it: BundleError now rather than after an hour's work.

    A link is taken as `write_atomically` takes it.
    """
    with _failures_named(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if not _is_special(path):
            with _temporary(_in_its_folder(path, through_link).parent) as temporary:
                temporary.touch()


def _in_its_folder(path: Path, through_link: bool) -> Path:
    """What is to be written, its folder made."""
    found = Path(os.path.realpath(path)) if through_link else path
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A name for a file that is gone afterwards; short, as the final name may be as long as names can be."""
    temporary = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = "a file stands where its folder should be" if isinstance(error, FileExistsError) else error.strerror
        raise BundleError(f"{str(path)!r} cannot be written: {reason or error}. It is as it was.") from None


def _is_special(path: Path) -> bool:
    folder = os.path.realpath(path.parent)
    is_other = path.exists() and not path.is_file() and not path.is_dir()
    return is_other or folder == "/dev" or folder.startswith("/proc/")


def read_bundle(path: Path) -> Bundle:
    """The parts of a detector file; BundleError where it is missing, cut, changed or of an unknown version."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte, which no file's name holds
        reason = getattr(error, "strerror", None) or error
        raise BundleError(
            f"detector {str(path)!r} cannot be read: {reason}. Expected a file written by "
            f"`normbank train`{_suggestion(path)}."
        ) from None
    body, comment = content[:-_COMMENT_LENGTH], content[-_COMMENT_LENGTH:]
    if not content.startswith(b"PK"):
        raise BundleError(f"{str(path)!r} is not a detector: expected a file written by `normbank train` (model.nbk).")
    if comment != _MARK + hashlib.sha256(body).hexdigest().encode():
        raise BundleError(
            f"detector {str(path)!r} is damaged: it is cut or changed ({len(content):,} bytes do not match their "
            f"checksum). Copy it again from where it was made."
        )
    return _parts(path, content)


def _suggestion(path: Path) -> str:
    inside = path / "model.nbk"
    return f", such as {str(inside)!r}" if inside.is_file() else " (model.nbk)"


def _parts(path: Path, content: bytes) -> Bundle:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            _check_version(path, manifest)
            return Bundle(manifest, archive.read("weights.safetensors"), archive.read("model.onnx"))
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:  # whole, but not from this program
        raise BundleError(f"detector {str(path)!r} does not hold what a detector holds: {error}.") from None


def _check_version(path: Path, manifest: dict[str, Any]) -> None:
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"detector {str(path)!r} is of format version {version}; this normbank reads version {FORMAT_VERSION}. "
            f"Use the normbank it was made with ({manifest.get('versions', {}).get('normbank', 'unknown')})."
        )
