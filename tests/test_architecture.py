"""The house keeps to the plan in docs/architecture.md: its tables are the one list of files, order and extras."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "src" / "normbank"
PLAN = REPO / "docs" / "architecture.md"
LONGEST = 400

WITHOUT, WITH, DOOR = "Without PyTorch", "With PyTorch", "The front door"
BASE = {"numpy", "PIL", "onnxruntime", "pydantic", "typer", "rich"}
EVALUATE = {"scipy", "matplotlib", "jinja2", "markupsafe"}
TORCH = {"torch", "lightning", "onnx", "onnxscript", "safetensors"}
EXTRAS = {
    "": set(),
    "deep": {"cv2"},
    "evaluate": EVALUATE,
    "train": TORCH | EVALUATE,
    "demo": TORCH | EVALUATE | {"skimage"},
}
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


class Room(NamedTuple):
    """A row of the plan."""

    file: str
    needs: str
    half: str


class Import(NamedTuple):
    """`module` is dotted, "normbank.x" for ours; `name` what is taken from it, None for the module as a whole."""

    module: str
    name: str | None
    line: int
    at_top: bool


def read_plan(text: str) -> list[Room]:
    """The rows of the tables under `## The rooms`, in order."""
    rooms, half = [], ""
    for line in text.partition("## The rooms")[2].partition("\n## ")[0].splitlines():
        if line.startswith("### "):
            half = line[4:].strip()
        elif row := re.fullmatch(r"\| `([\w/]+\.py)` \|.*\| (\w*) ?\|", line):
            rooms.append(Room(row[1], row[2], half))
    return rooms


PLANNED = read_plan(PLAN.read_text(encoding="utf-8"))
ROOMS = {room.file: room for room in PLANNED}
ORDER = {room.file: place for place, room in enumerate(PLANNED)}
FILES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
MODULES = [file for file in FILES if not file.endswith("__init__.py")]


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def file_of(module: str) -> str | None:
    """The file of normbank.x.y below the package; None for what is no module of ours."""
    inner = Path(*module.split(".")[1:])
    return next((str(f) for f in (inner.with_suffix(".py"), inner / "__init__.py") if (PACKAGE / f).is_file()), None)


def package_of(file: str) -> list[str]:
    return ["normbank", *Path(file).parent.parts]


def imports(file: str, source: ast.Module | None = None) -> Iterator[Import]:
    """Every import, those in functions and under TYPE_CHECKING too; `from . import x` of a module counts as x."""
    source = source or tree(file)
    inside = {id(n) for f in ast.walk(source) if isinstance(f, ast.FunctionDef) for n in ast.walk(f) if n is not f}
    for node in ast.walk(source):
        at_top = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from (Import(one.name, None, node.lineno, at_top) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = package_of(file)
            start = here[: len(here) + 1 - node.level] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            for one in node.names:
                whole = f"{module}.{one.name}"
                is_module = module.startswith("normbank") and file_of(whole) is not None
                yield Import(*((whole, None) if is_module else (module, one.name)), node.lineno, at_top)


def ours(file: str) -> Iterator[tuple[Import, str]]:
    for found in imports(file):
        if found.module.split(".")[0] == "normbank":
            target = "__init__.py" if found.module == "normbank" else file_of(found.module)
            assert target, f"{file}:{found.line}: {found.module} is no module"
            yield found, target


def defined(file: str) -> set[str]:
    """The names a module makes itself at its top level."""
    names: set[str] = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    for node in tree(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            names |= {n.id for n in ast.walk(target) if isinstance(n, ast.Name)} if target is not None else set()
    return names


def test_the_plan_is_read():
    text = "## The rooms\n### A\n| `a/b.py` | x | y | |\n| `c.py` | x `d.py` | train |\n## Else\n| `e.py` | | |\n"
    assert read_plan(text) == [Room("a/b.py", "", "A"), Room("c.py", "train", "A")]


def test_imports_are_seen_wherever_they_stand():
    source = ast.parse(
        "from __future__ import annotations\nfrom .. import images\nfrom ..errors import DataError\n"
        "def f():\n    import torch\n    from . import cache\n    from .. import __version__\n"
    )
    found = [one for one in imports("data/mnist.py", source) if one.module != "__future__"]
    assert found == [
        Import("normbank.images", None, 2, True),
        Import("normbank.errors", "DataError", 3, True),
        Import("torch", None, 5, False),
        Import("normbank.data.cache", None, 6, False),
        Import("normbank", "__version__", 7, False),
    ]


def test_the_plan_names_every_file_once():
    assert sorted(ROOMS) == MODULES
    assert len(PLANNED) == len(ROOMS)
    assert {room.half for room in PLANNED} == {WITHOUT, WITH, DOOR}
    assert all(room.needs in EXTRAS for room in PLANNED)


@pytest.mark.parametrize("file", MODULES)
def test_a_file_imports_only_from_above(file):
    for found, target in ours(file):
        if target != "__init__.py":
            assert ORDER[target] < ORDER[file], f"{file}:{found.line} imports {target}, which stands below it"


@pytest.mark.parametrize("file", FILES)
def test_names_come_from_where_they_are_defined(file):
    for found, target in ours(file):
        if found.name is not None:
            assert found.name in defined(target), f"{file}:{found.line}: {found.name} is not defined in {target}"
        if target == "__init__.py":
            assert found.name == "__version__", f"{file}:{found.line} takes {found.name} from the package root"


@pytest.mark.parametrize("file", [file for file in FILES if file != "__main__.py"])
def test_nothing_imports_the_command_line(file):
    assert all(target != "cli.py" for _, target in ours(file))


def for_types_only(file: str) -> set[int]:
    """The lines that stand under `if TYPE_CHECKING`."""
    branches = [n for n in tree(file).body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {
        inner.lineno
        for branch in branches
        for node in branch.body
        for inner in ast.walk(node)
        if hasattr(inner, "lineno")
    }


def test_the_command_line_imports_what_it_needs_when_it_needs_it():
    reached, waiting, packages = set(), ["cli.py"], set()
    while waiting:
        file = waiting.pop()
        reached.add(file)
        at_start = [one for one in imports(file) if one.at_top and one.line not in for_types_only(file)]
        packages |= {one.module.split(".")[0] for one in at_start} - sys.stdlib_module_names
        inner = {file_of(one.module) for one in at_start if one.module.startswith("normbank.")}
        waiting += [file for file in inner - reached if file]
    assert packages <= {"normbank", "typer"}, f"`normbank --help` loads {packages} by way of {sorted(reached)}"


@pytest.mark.parametrize("file", FILES)
def test_third_party_packages_stay_where_they_belong(file):
    room = ROOMS.get(file, Room(file, "", WITHOUT))
    for found in imports(file):
        package = found.module.split(".")[0]
        if package in sys.stdlib_module_names or package == "normbank":
            continue
        where = f"{file}:{found.line}: {package}"
        assert package in BASE.union(*EXTRAS.values()), f"{where} is in no list of dependencies"
        assert room.half == WITH or package not in TORCH, f"{where} outside the half with PyTorch"
        assert not found.at_top or package in BASE | EXTRAS[room.needs], f"{where} is imported without its extra"


@pytest.mark.parametrize("file", FILES)
def test_nothing_that_runs_what_it_reads(file):
    assert all(found.module.split(".")[0] not in FORBIDDEN for found in imports(file))
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called not in ("eval", "exec", "compile", "__import__"), f"{file}:{node.lineno} {called}"
            assert keywords.get("allow_pickle", "False") == "False", f"{file}:{node.lineno} {called}"
            assert called != "torch.load" or keywords.get("weights_only") == "True", f"{file}:{node.lineno} {called}"


@pytest.mark.parametrize("file", FILES)
def test_no_file_is_long(file):
    assert len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("file", FILES)
def test_what_is_public_says_what_it_is(file):
    assert ast.get_docstring(tree(file))
    for owner, node in public(tree(file)):
        assert ast.get_docstring(node), f"{file}:{node.lineno}: {owner}{node.name} has no docstring"


# torch's own name; what it does is said by the class. Overloads are told by the function they belong to.
SPEAKS_FOR_ITSELF = {"forward"}


def public(module: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """(owner, definition) of every public function, class and method."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield "", node
            members = node.body if isinstance(node, ast.ClassDef) else []
            for member in members:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
                    is_overload = "overload" in [ast.unparse(d) for d in member.decorator_list]
                    if not is_overload and member.name not in SPEAKS_FOR_ITSELF:
                        yield f"{node.name}.", member


def test_the_half_without_pytorch_loads_without_it():
    names = ["normbank", *("normbank." + r.file[:-3].replace("/", ".") for r in PLANNED if r.half != WITH)]
    script = f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\n"
    script += f"print(sorted({TORCH!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
