"""`run TABLE` runs the missing cells, `report` writes the tables of results, `figures` draws Figures 5 to 9."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.budgets import BUDGETS
from bench.children import INTERRUPTED, REPO
from bench.paper import TABLES
from bench.report import StaleError, report
from bench.runner import Places, run
from normbank.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 done, 1 stale or a cell failed, 2 a mistake, 130 interrupted, 141 nobody reads."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.command == "run":
            return _run(asked)
        if asked.command == "figures":
            return _figures(asked)
        report(check=asked.check)
    except StaleError as error:
        print(error, file=sys.stderr)
        return 1
    except (ValueError, UserError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has left, which is its right
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where Python will flush the rest to
        from normbank.endings import READER_LEFT  # the command line's libraries are not for every start

        return READER_LEFT
    except KeyboardInterrupt:
        print("\nbench: interrupted. The same command goes on where it was.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _figures(asked: argparse.Namespace) -> int:
    from bench.figures import figures  # matplotlib is not for those who only run

    places = Places(*(Path(path).resolve() for path in (asked.data, asked.work, asked.results)))
    figures(asked.figure, asked.budget, places, Path(asked.out), say=lambda line: print(line, flush=True))
    return 0


def _run(asked: argparse.Namespace) -> int:
    places = Places(*(Path(path).resolve() for path in (asked.data, asked.work, asked.results)))
    return run(
        asked.table,
        places,
        categories=_names(asked.categories),
        seeds=asked.seeds,
        rows=_names(asked.rows, ";"),
        budget=asked.budget,
        device=asked.device,
        jobs=asked.jobs,
        refill=asked.refill,
        dry_run=asked.dry_run,
        estimated=asked.estimate,
        agrees=(lambda question: True) if asked.yes or not sys.stdin.isatty() else _agrees,
        say=lambda line: print(line, flush=True),
    )


def _names(given: Sequence[str], mark: str = ",") -> list[str]:
    """Names that were given apart or with the mark between them."""
    return [part.strip() for text in given for part in text.split(mark) if part.strip()]


def _agrees(question: str) -> bool:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench")
    commands = parser.add_subparsers(dest="command", required=True)
    tables = commands.add_parser("report", help="make the tables of results from bench/results")
    tables.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a table is stale")
    _add_run(commands.add_parser("run", help="run the missing cells of a table"))
    _add_figures(commands.add_parser("figures", help="draw Figures 5 to 9 from what is stored, as PNG and SVG"))
    return parser


def _add_figures(one: argparse.ArgumentParser) -> None:
    one.add_argument("figure", nargs="*", metavar="FIGURE", help="fig5, fig6, fig7, fig8, fig9; all if left out")
    one.add_argument("--budget", choices=BUDGETS, default="paper", help="of which the stored runs are taken (paper)")
    one.add_argument("--out", default=REPO / "bench" / "figures", metavar="DIR", help="where the files go")
    _add_places(one)


def _add_run(one: argparse.ArgumentParser) -> None:
    one.add_argument("table", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    one.add_argument("--categories", nargs="+", default=[], metavar="NAME", help="bottle, 3, ...; all if left out")
    one.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="methods or settings; all if left out")
    one.add_argument("--seeds", type=_positive, default=3, metavar="N", help="seeds 0 to N-1 (3)")
    budgets = "; ".join(f"{name}: {budget.words}" for name, budget in BUDGETS.items())
    one.add_argument("--budget", choices=BUDGETS, default="paper", help=budgets)
    one.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    shared = "trainings at once, each on its share of the processor's cores (1)"
    one.add_argument("--jobs", type=_positive, default=1, metavar="N", help=shared)
    again = "also what another commit stored; of models in --work the bank is filled again, their networks are kept"
    one.add_argument("--refill", action="store_true", help=again)
    _add_places(one)
    one.add_argument("--yes", action="store_true", help="do not ask before it starts")
    one.add_argument("--dry-run", action="store_true", help="list and estimate only")
    one.add_argument("--no-estimate", dest="estimate", action="store_false", help="start without measuring steps")


def _add_places(one: argparse.ArgumentParser) -> None:
    data = os.environ.get("NORMBANK_DATA") or REPO.parent / "shared" / "data"
    one.add_argument("--data", default=data, metavar="DIR", help="holds mvtec_ad, mnist, ... ($NORMBANK_DATA)")
    one.add_argument("--work", default=REPO / "bench" / "work", metavar="DIR", help="models and checkpoints")
    one.add_argument("--results", default=REPO / "bench" / "results" / "cells", metavar="DIR", help="a JSON a cell")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return int(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the training processes are ended, too
    sys.exit(main())
