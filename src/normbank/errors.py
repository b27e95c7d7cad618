"""One small tree of errors.

Every message says what was being read, what was expected, what came, and what to do about it.
The command line turns a `UserError` into exit code 2 without a traceback; anything else is a fault
of ours and exits with 1.
"""

from __future__ import annotations


class NormbankError(Exception):
    """Root of every error this package raises on purpose."""


class UserError(NormbankError):
    """The input was wrong: the message names the file or field and says what to do."""


class ConfigError(UserError):
    """A setting is unknown, out of range, or does not fit the others."""


class DataError(UserError):
    """A data set cannot be read, or holds too little to work with."""


class ImageError(UserError):
    """One image cannot be used. `path` names it; batch work reports it and goes on."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path!r}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:  # to cross from one process to another
        return type(self), (self.path, self.reason)


class BundleError(UserError):
    """A detector file is missing, damaged, or of an unknown version."""


class MetricError(UserError):
    """A metric was asked of numbers it is not defined for."""


class TrainingError(UserError):
    """Training cannot start, or went wrong for a reason the user can mend."""


class ParityError(NormbankError):
    """The exported graph does not reproduce the trained network: a fault of ours."""


def problem(subject: str, *, expected: str, came: str, do: str) -> str:
    """One sentence order for all messages: subject, expectation, finding, remedy."""
    return f"{subject}: expected {expected}, got {came}. {do}"
