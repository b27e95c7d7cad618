"""Where the command starts, and `python -m normbank`: Ctrl-C is answered in words while the rest is still loading."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """`cli.main`; exit code 130 where it was interrupted before that was there."""
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        print("\nnormbank: interrupted.", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
