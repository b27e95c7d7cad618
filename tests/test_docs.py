"""What the documents say is there, is there; what they tell to type can be typed; what they show runs."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer.main
from PIL import Image
from tiny import save, weave

from normbank import advice, config, outlets, preparing, presets
from normbank.calibration import Calibration
from normbank.cli import app

REPO = Path(__file__).resolve().parent.parent
PACKAGE, TESTS, DOCS = REPO / "src" / "normbank", REPO / "tests", REPO / "docs"
PAGES = [
    REPO / "README.md",
    REPO / "CHANGELOG.md",
    REPO / "bench" / "README.md",
    REPO / "bench" / "LOG.md",
    *sorted(DOCS.glob("*.md")),
]
PLACEHOLDERS = {"COMMAND"}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    """What stands between single backticks, outside blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE))


def by_page(found: list[tuple[Path, str]]) -> list[object]:
    return [pytest.param(page, one, id=f"{page.name}-{one[:70]}") for page, one in dict.fromkeys(found)]


# --- The tables of docs/method.md ------------------------------------------------------------------------------------


def symbol_rows() -> list[list[str]]:
    part = text_of(DOCS / "method.md").partition("## Symbols and equations")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in part.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0] not in ("paper", "---")]


def names_in(path: Path) -> dict[str, set[str]]:
    """Dotted name to parameters: functions, classes, their methods, fields and attributes set on self."""
    found: dict[str, set[str]] = {}

    def enter(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                found[prefix + node.name] = {one.arg for one in arguments}
                for inner in ast.walk(node) if prefix else ():
                    if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                        found[prefix + inner.attr] = set()
            elif isinstance(node, ast.ClassDef):
                found[prefix + node.name] = set()
                enter(node.body, f"{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[prefix + node.target.id] = set()

    enter(ast.parse(text_of(path)).body, "")
    return found


@pytest.mark.parametrize("row", symbol_rows(), ids=lambda row: row[0])
def test_symbols_are_where_the_table_says(row):
    assert len(row) == 5, row
    names, files, tests = (re.findall(r"`([^`]+)`", cell) for cell in row[2:])
    assert names
    assert files
    assert tests
    known: dict[str, set[str]] = {}
    for file in files:
        assert (PACKAGE / file).is_file(), file
        known |= names_in(PACKAGE / file)
    for name in names:
        dotted, _, arguments = name.rstrip(")").partition("(")
        assert dotted in known, f"{dotted} is not in {files}"
        assert {one.strip() for one in arguments.split(",") if one} <= known[dotted], f"{name}: parameters differ"


def test_the_table_has_every_symbol_of_the_paper():
    said = " ".join(row[0] for row in symbol_rows())
    symbols = (
        "X X_R A A' F_l L p k m q_t Q M_i M omega-hat omega delta_m q'_t F' mu delta_H lambda_SSIM X_M^l X_D SSIM_s"
    )
    for symbol in [*symbols.split(), *(f"Eq. {number}" for number in range(1, 10)), "score"]:
        assert re.search(rf"(?<![\w'-]){re.escape(symbol)}(?![\w'-])", said), symbol


def named_tests() -> list[tuple[Path, str]]:
    return [(page, span) for page in PAGES for span in spans(page) if re.match(r"(tests/)?test_\w+\.py::", span)]


@pytest.mark.parametrize(("page", "test"), by_page(named_tests()))
def test_tests_that_are_named_exist(page, test):
    file, _, name = test.removeprefix("tests/").partition("::")
    assert name.replace("::", ".") in names_in(TESTS / file)


# --- Files, links, settings, presets ---------------------------------------------------------------------------------


def paths_named() -> list[tuple[Path, str]]:
    ours = r"(src|tests|docs|bench|\.ci)(/[\w.-]+)+/?|[\w/-]+\.(py|md)"
    return [(page, span) for page in PAGES for span in spans(page) if re.fullmatch(ours, span)]


@pytest.mark.parametrize(("page", "path"), by_page(paths_named()))
def test_files_that_are_named_exist(page, path):
    assert any((base / path).exists() for base in (REPO, PACKAGE)), path


def links() -> list[tuple[Path, str]]:
    found = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page))]
    return [(page, link) for page, link in found if not re.match(r"https?://|#", link)]


@pytest.mark.parametrize(("page", "link"), by_page(links()))
def test_links_lead_somewhere(page, link):
    target = (page.parent / link.partition("#")[0]).resolve()
    assert target.exists()


def settings_named() -> list[tuple[Path, str]]:
    pattern = r"(?<![\w/.])((?:data|model|train|score)\.[a-z_]+)(?!\w|\.?/|\()"
    return [(page, name) for page in PAGES for span in spans(page) for name in re.findall(pattern, span)]


@pytest.mark.parametrize(("page", "name"), by_page(settings_named()))
def test_settings_that_are_named_exist(page, name, request):
    if name in config.fields() or name in ("data.md", "model.nbk", "model.onnx"):
        return
    made = json.loads((request.getfixturevalue("tiny_model").parent / "run.json").read_text(encoding="utf-8"))
    group, key = name.split(".")
    assert key in made[group], f"{name} is neither a setting nor in run.json"


def assignments() -> list[tuple[Path, str]]:
    pattern = r"(?<!\S)((?:data|model|train|score)\.\w+=\S+)"
    return [(page, given) for page in PAGES for span in spans(page) for given in re.findall(pattern, span)]


@pytest.mark.parametrize(("page", "given"), by_page(assignments()))
def test_settings_take_the_values_that_are_named(page, given):
    name, _, value = given.partition("=")
    if "<" not in value:
        presets.preset("small" if name == "model.patches" else "paper-small", {name: value})


def test_presets_that_are_named_exist():
    named = {span for page in PAGES for span in spans(page) if re.fullmatch(r"paper-[\w-]+", span)}
    assert named == {name for name in presets.PRESETS if name.startswith("paper-")}


def test_every_preset_opens_with_what_it_is():
    for name, block in zip(presets.PRESETS, blocks(DOCS / "commands.md", "text"), strict=True):
        for word in ("Source: ", "Expected", "ime: ", "Command: "):
            assert word in block, f"{name} does not say {word!r}"
        assert re.search(rf"Command: .*--preset {name}\b", block)


def test_extras_that_are_named_exist():
    project = text_of(REPO / "pyproject.toml")
    named = {one for page in PAGES for one in re.findall(r"(?:normbank|\.)\[(\w+)\]", text_of(page))}
    assert {"train", "evaluate", "deep"} <= named
    for extra in named:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", text_of(REPO / "Makefile"), re.MULTILINE))
    named = {one for page in PAGES for block in blocks(page, "sh") for one in re.findall(r"^make (\w+)", block, re.M)}
    assert {"demo", "test"} <= named <= targets


# --- Commands --------------------------------------------------------------------------------------------------------


def command_of(words: list[str]) -> tuple[object, list[str]]:
    """The command that `words` (after "normbank") mean, and what is left of them."""
    found = typer.main.get_command(app)
    while words and hasattr(found, "commands") and not words[0].startswith("-"):
        assert words[0] in found.commands, f"there is no command {words[0]!r}"
        found, words = found.commands[words[0]], words[1:]
    return found, words


def lines_to_type() -> list[tuple[Path, str]]:
    lines = [(page, line) for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    told = [
        (DOCS / "commands.md", line)
        for block in blocks(DOCS / "commands.md", "text")
        for line in re.findall(r"^Command: (.*)$", block, re.MULTILINE)
    ]
    return [(page, line) for page, line in [*lines, *told] if line.startswith("normbank ")]


@pytest.mark.parametrize(("page", "line"), by_page(lines_to_type()))
def test_lines_to_type_can_be_typed(page, line):
    command, words = command_of(shlex.split(line, comments=True)[1:])
    given = command.make_context(command.name, list(words)).params
    presets.preset(given.get("preset") or presets.DEFAULT_PRESET, given.get("set_") or [])


def commands_in_prose() -> list[tuple[Path, str]]:
    return [(page, span) for page in PAGES for span in spans(page) if span.startswith("normbank ")]


@pytest.mark.parametrize(("page", "span"), by_page(commands_in_prose()))
def test_commands_in_prose_exist(page, span):
    words = [word for word in shlex.split(span)[1:] if word not in PLACEHOLDERS]
    command, rest = command_of(words)
    options = {name for one in command.params for name in one.opts} | {"--help", "-h"}
    assert {word for word in rest if word.startswith("-")} <= options


def test_every_command_is_in_the_readme():
    shown = " ".join(blocks(REPO / "README.md", "sh"))

    def all_of(group: object, name: str) -> Iterator[str]:
        for short, command in group.commands.items():
            yield from all_of(command, f"{name} {short}") if hasattr(command, "commands") else (f"{name} {short}",)

    for name in all_of(typer.main.get_command(app), "normbank"):
        assert name in shown


def test_commands_md_is_what_the_code_makes_of_it():
    done = subprocess.run([sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_commands_md_that_is_stale_is_told(tmp_path, monkeypatch, capsys):
    generate = script("generate")
    monkeypatch.setattr(generate, "PAGE", tmp_path / "commands.md")
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert generate.main() == 1
    (tmp_path / "commands.md").write_text(generate.page() + "more\n", encoding="utf-8")
    assert generate.main() == 1
    assert "docs/commands.md is stale: run `python docs/generate.py`" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["generate.py"])
    assert generate.main() == 0
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check"])
    assert generate.main() == 0


def test_commands_md_has_every_setting():
    page = text_of(DOCS / "commands.md")
    for name, told in config.fields().items():
        assert f"| `{name}` | {told}".replace("<", "&lt;") in page


# --- Python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "python")])
def test_python_that_is_shown_parses(block):
    ast.parse(block)


def test_ten_lines_of_python_run(tmp_path, monkeypatch, tiny_model, capsys):
    ten_lines = blocks(REPO / "README.md", "python")[0]
    assert len(ten_lines.splitlines()) == 10
    shutil.copy(tiny_model, tmp_path / "model.nbk")
    for seed, name in enumerate(("part.png", "a.png", "b.png")):
        save(tmp_path / name, weave(seed))
    monkeypatch.chdir(tmp_path)
    exec(compile(ten_lines, "README.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[2:]] == ["worst", "a.png", "b.png"]
    assert len(said) == 5


def test_training_from_python_is_called_as_it_can_be(tmp_path, monkeypatch, tiny_data):
    import inspect

    from normbank import fitting

    calls = []
    signature = inspect.signature(fitting.fit)
    monkeypatch.setattr(fitting, "fit", lambda *a, **k: calls.append(signature.bind(*a, **k).arguments))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_data / "train" / "good", tmp_path / "parts")
    exec(compile(blocks(REPO / "README.md", "python")[1], "README.md", "exec"), {})
    (call,) = calls
    assert (call["config"].train.steps, call["config"].data.fit) == (800, "pad")
    assert len(call["dataset"].train) == 24
    assert call["out"] == Path("runs/parts")


# --- Numbers ---------------------------------------------------------------------------------------------------------


def test_what_predict_writes_is_told_column_by_column():
    told = text_of(DOCS / "data.md").partition("## What `predict` writes")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) == outlets.COLUMNS


def test_the_readme_says_how_many_images_it_takes():
    told = " ".join(text_of(REPO / "README.md").split())
    assert preparing.FEWEST == 10
    assert f"Ten good images are the least, {advice.ENOUGH} a start" in told
    data = presets.preset("small").data
    assert (data.held_out, data.held_out_min) == (0.1, 20)
    assert "A tenth of them, at least 20 and at most half, are held out" in told
    for held_out, promise in ((20, 1 / 21), (98, 1 / 99), (99, 0.01)):
        assert Calibration(tuple(range(held_out)), 0.01).promised_rate == pytest.approx(promise)
    assert f"{100 / 21:.1f} % for 20; the 1 % that is asked for" in told
    assert "takes 99 of them" in told


# --- The picture -----------------------------------------------------------------------------------------------------


def test_the_picture_is_made_from_a_finished_demo(tmp_path, monkeypatch, tiny_model, tiny_data):
    for texture in ("brick", "grass"):
        (tmp_path / texture).mkdir()
        shutil.copy(tiny_model, tmp_path / texture / "model.nbk")
        shutil.copytree(tiny_data, tmp_path / "data" / texture)
    picture, target = script("picture"), tmp_path / "docs" / "picture.png"
    arguments = ["picture.py", str(tmp_path), str(target), "--rows", "brick/spot/000", "grass/scratch/002"]
    monkeypatch.setattr(sys, "argv", arguments)
    picture.main()
    drawn = np.asarray(Image.open(target))
    tile, step = picture.TILE, picture.TILE + picture.GAP
    assert drawn.shape == (picture.HEAD + 2 * step - picture.GAP, 4 * step - picture.GAP, 3)
    first = drawn[picture.HEAD : picture.HEAD + tile, :tile]
    assert first.max() == 250  # the spot of the first row
    heat, outlined = (drawn[picture.HEAD :, column * step : column * step + tile] for column in (2, 3))
    assert (outlined == 255).all(axis=2).sum() > (heat == 255).all(axis=2).sum()


def test_a_row_that_is_not_there_is_named(tmp_path, tiny_model, tiny_data):
    (tmp_path / "brick").mkdir()
    shutil.copy(tiny_model, tmp_path / "brick" / "model.nbk")
    shutil.copytree(tiny_data, tmp_path / "data" / "brick")
    with pytest.raises(Exception, match=r"expected a test image hole/000 with a mask\. There are: scratch/000, "):
        script("picture").render(tmp_path, ("brick/hole/000",))


def test_the_picture_rows_are_images_of_the_demo():
    from normbank.data.demo import CROPS_A_KIND, KINDS, TEXTURES

    for row in script("picture").ROWS:
        texture, kind, stem = row.split("/")
        assert texture in TEXTURES
        assert kind in KINDS
        assert int(stem) < CROPS_A_KIND
