"""Writes docs/commands.md from the commands and settings themselves.

`python docs/generate.py` writes it; with `--check` it writes nothing, and exits with 1 where the page is stale.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main

from normbank import cli, config, endings, presets
from normbank.model.memories import MEMORIES

PAGE = Path(__file__).resolve().parent / "commands.md"

_OPENING = """# Commands and settings

Made by `python docs/generate.py` from the code: change it there.

`normbank --help` lists the commands, `normbank COMMAND --help` explains one; `normbank --version` says
which version this is.
"""

_EXIT_CODES = f"""## Exit codes

| code | meaning |
| --- | --- |
| 0 | done |
| 1 | a fault of ours, with a traceback: please report it |
| {endings.MISTAKE} | a mistake in what was given, or too little room or memory: one message says what to do |
| {endings.ANOMALY_FOUND} | `normbank predict --fail-on-anomaly`: an image is anomalous |
| {endings.INTERRUPTED}, {endings.TERMINATED} | ended by Ctrl-C or by SIGTERM; a message says what is left |
| {endings.READER_LEFT} | the reader of the output left before the end |

Images that cannot be used are no mistake: they are named and skipped, and the code is 0, unless none is left or
`--strict` is given. `--fail-on-anomaly` does not let them pass: {endings.MISTAKE} where no image is anomalous and one
could not be scored.
"""

_SETTINGS = """## Settings

Any of them is set with `--set`, given once for each:

```sh
normbank train parts --out runs/parts --set train.steps=800 --set model.widths=16,32,64,128,128
```

Lists are written with commas, and `none` empties a setting that may be empty. In Python it is
`preset("small", {"train.steps": 800})` of `normbank.presets`. A name that is not known is answered with the
nearest there is.

Where a default has a source, it stands behind the description: paper is a value that the paper prints, field the habit
of its closest relatives, ours our choice. The last column holds what presets set otherwise.
"""


def page() -> str:
    """The whole text of docs/commands.md."""
    command = typer.main.get_command(cli.app)
    parts = [_OPENING, "## Commands\n", *_commands(command, "normbank"), _EXIT_CODES]
    parts += ["## Presets\n", *_presets(), _SETTINGS, *_settings()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _commands(group: Any, name: str) -> Iterator[str]:
    for short, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {short}")
        else:
            yield _command(command, f"{name} {short}")


def _command(command: Any, name: str) -> str:
    lines = [f"### {name}\n", _sentence(command.help), ""]
    shown = [one for one in command.params if one.name != "help"]
    if shown:
        lines += ["| argument or option | meaning | default |", "| --- | --- | --- |", *map(_parameter, shown), ""]
    example = command.epilog.removeprefix("Example: ")
    return "\n".join([*lines, "```sh", example, "```"]) + "\n"


def _parameter(one: Any) -> str:
    is_argument = one.param_type_name == "argument"
    names = one.metavar or one.name.upper() if is_argument else ", ".join(one.opts)
    value = "" if is_argument or one.is_flag else f" {one.metavar or one.name.upper()}"
    return _row(f"`{names}{value}`", one.help or "", "required" if one.required else _default(one.default))


def _default(value: Any) -> str:
    return "" if value is None or value is False else f"`{value}`"


def _presets() -> Iterator[str]:
    usual = f"`{presets.DEFAULT_PRESET}`, and `{presets.PRESET_FOR_GPU}` where there is a GPU to train on"
    yield f"The default of `normbank train` is {usual}.\n"
    for name, make in presets.PRESETS.items():
        yield f"### {name}\n"
        yield "\n".join(["```text", inspect.getdoc(make) or "", "```"]) + "\n"


def _settings() -> Iterator[str]:
    plain = config.Config().model_dump(mode="json")
    made = {name: make().model_dump(mode="json") for name, make in presets.PRESETS.items()}
    rows = ["| setting | meaning | default | presets that differ |", "| --- | --- | --- | --- |"]
    for dotted, told in config.fields().items():
        group, field = dotted.split(".")
        default = plain[group][field]
        others: dict[str, list[str]] = {}
        for name, values in made.items():
            if values[group][field] != default:
                others.setdefault(_value(values[group][field]), []).append(name)
        differing = "; ".join(f"{value}: {', '.join(names)}" for value, names in others.items())
        rows.append(_row(f"`{dotted}`", told + _choices(group, field), _value(default), differing))
    yield "\n".join(rows)


def _choices(group: str, field: str) -> str:
    """What a setting may be, where there are names to choose from."""
    if (group, field) == ("model", "memory"):
        return f" ({', '.join(MEMORIES)})"
    kind = config.Config.model_fields[group].annotation.model_fields[field].annotation
    names = next((get_args(one) for one in (kind, *get_args(kind)) if get_origin(one) is Literal), ())
    return f" ({', '.join(map(str, names))})" if names else ""


def _value(value: Any) -> str:
    """As `--set` takes it."""
    if isinstance(value, list):
        return f"`{','.join(map(str, value))}`"
    return f"`{'none' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


def _row(*cells: str) -> str:
    escaped = (_sentence(cell).replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return "| " + " | ".join(escaped) + " |"


def main() -> int:
    """Write, or with --check compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page is stale")
    check = parser.parse_args().check
    if not check:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page():
        print("docs/commands.md is stale: run `python docs/generate.py` and commit what it writes.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
