"""`python -m bench report` writes the tables of results, `--check` fails where they are stale."""

from __future__ import annotations

import argparse
import sys

from bench.report import StaleError, report


def main() -> int:
    """Exit code 0 done, 1 stale, 2 a file that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    commands = parser.add_subparsers(dest="command", required=True)
    tables = commands.add_parser("report", help="make bench/README.md and the README's table from bench/results/*.json")
    tables.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a table is stale")
    check = parser.parse_args().check
    try:
        report(check=check)
    except StaleError as error:
        print(error, file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
