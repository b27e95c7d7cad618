"""How a command ends: what goes wrong in it becomes a message on standard error and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from .errors import UserError
from .progress import note

MISTAKE, ANOMALY_FOUND = 2, 3
INTERRUPTED, TERMINATED, READER_LEFT = (128 + number for number in (2, 15, 13))  # as the shell counts signals

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Mend the permissions, or name another place"),
    errno.ENOTDIR: "Part of that path is a file: name another",
    errno.EEXIST: "A file has that name: name another",
    errno.EISDIR: "It is a folder: name a file",
    errno.ENAMETOOLONG: "Name a shorter one",
    errno.ENOENT: "It was there before, or is a link that leads nowhere: look",
    **dict.fromkeys((errno.EIO, errno.ESTALE), "The disk, or the drive in the network, failed: see to it"),
    errno.EMFILE: "Let a process open more files (ulimit -n)",
    errno.ENOMEM: "Free memory",
}
# What NumPy, PyTorch, CUDA and ONNX Runtime say, of which the last three raise what they raise for anything else, too.
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "failed to allocate memory", "bad_alloc")


class Commands(TyperGroup):
    """The commands, with one place where what goes wrong in them becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; typer.Exit with the code where it did not go well."""
        try:
            result = super().invoke(ctx)
            if sys.stdout:
                sys.stdout.flush()
            return result
        except UserError as error:
            _fail(str(error))
        except BrokenPipeError:  # the reader of our output has left, which is its right
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python will flush the rest to
            raise typer.Exit(READER_LEFT) from None
        except OSError as error:
            if error.errno not in _REMEDIES:
                raise
            _fail(f"{error.filename or 'output'}: {error.strerror}. {_REMEDIES[error.errno]}, and run it again.")
        except (KeyboardInterrupt, ImportError) as error:
            if isinstance(error, ImportError) and not _stopped_by:  # with it, a library whose loading was interrupted
                raise
            what_is_left = error if isinstance(error, KeyboardInterrupt) else ""
            raise typer.Exit(_interrupted(str(what_is_left))) from None
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            do = "Less does with a smaller data.size, train.batch_size or model.widths; in use, with --batch 1."
            _fail(f"there is not enough memory: {_first_line(error)}. {do}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)


_stopped_by: list[int] = []  # the exit code of the signal that came


def stop(number: int, _: object) -> None:
    """What `kill` and a shutdown ask for is what Ctrl-C asks for."""
    _stopped_by.append(128 + number)
    raise KeyboardInterrupt


def run_to_its_end(command: Callable[[], object]) -> NoReturn:
    """Leave with the exit code of the whole command line; an interruption outside of any command is told here."""
    try:
        command()
    except SystemExit:
        if not _stopped_by:  # else typer has taken the interruption for its own
            raise
    except KeyboardInterrupt:
        pass
    else:
        sys.exit(0)
    sys.exit(_interrupted())


def _interrupted(what_is_left: str = "") -> int:
    """Tell it; the exit code, by the signal that came."""
    note(f"\nnormbank: interrupted. {what_is_left}".rstrip())
    return _stopped_by.pop() if _stopped_by else INTERRUPTED


def _fail(message: str) -> NoReturn:
    note(f"normbank: {message}")
    raise typer.Exit(MISTAKE)


@contextlib.contextmanager
def interruptible(what_is_left: Callable[[], str]) -> Iterator[None]:
    """Where Ctrl-C comes, it is answered with what is left then."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what_is_left()) from None
