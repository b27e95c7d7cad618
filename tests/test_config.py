"""Settings: the presets, the paper's numbers, overrides and the words of their errors."""

from __future__ import annotations

import json
import re
import signal

import pytest
from pydantic import ValidationError
from tiny import SETTINGS

from normbank import cli
from normbank.config import Config, completed, fields, from_dict, override
from normbank.errors import ConfigError
from normbank.presets import DEFAULT_PRESET, PRESETS, preset
from normbank.settings import Data, Model

# Section IV-A of the paper, copied by hand: L, p, k, m, batch.
PRINTED = {
    "paper-mvtec-texture": (5, 4, (32, 16, 16, 8), (150, 200, 200, 200), 20),
    "paper-mvtec-object": (5, 4, (16, 16, 16, 8), (150, 200, 200, 200), 20),
    "paper-mnist": (3, 3, (1, 1, 1), (10, 10, 10), 64),
    "paper-oct": (4, 3, (2, 2, 2), (10, 10, 10), 20),
}
BASELINES = ("ae-l2", "ae-ssim", "ae-skip", "memae", "mnad", "daad", "daad-plus")
OURS = ("standard", "small", "fast")


# ---------------------------------------------------------------- presets


def test_the_presets_there_are():
    assert set(PRESETS) == {*PRINTED, "paper-small", *OURS, *BASELINES}
    assert DEFAULT_PRESET in PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_and_is_what_it_says(name):
    config = preset(name)
    assert config.preset == name
    assert from_dict(json.loads(json.dumps(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_opens_with_source_result_time_and_command(name):
    told = PRESETS[name].__doc__ or ""
    for word in ("Source:", "Expected", "ime:", "Command: normbank train"):
        assert word in told
    assert f"--preset {name}" in told


@pytest.mark.parametrize("name", PRINTED)
def test_paper_presets_have_the_printed_values(name):
    levels, memories, partitions, items, batch = PRINTED[name]
    config = preset(name)
    assert config.model.levels == levels
    assert config.model.memory_levels == memories
    assert config.model.partitions == partitions
    assert config.model.items == items
    assert config.train.batch_size == batch
    assert config.train.learning_rate == 0.002
    assert config.train.ssim_weight == 0.1
    assert config.score.delta_h == 0.5
    assert config.model.memory == "pmb"
    assert (config.model.shrinkage, config.model.shrink_threshold) == ("soft", None)  # None: delta_m = 1/m
    assert (config.model.renormalise, config.model.temperature) == (False, 1.0)
    assert (config.data.held_out, config.data.held_out_min) == (0, 0)  # the paper holds out none
    assert config.data.fit == "stretch"


@pytest.mark.parametrize("name", ["paper-mvtec-texture", "paper-mvtec-object", "paper-oct"])
def test_the_printed_image_size(name):
    assert preset(name).data.size == 128


def test_the_small_preset_is_the_papers_method_with_a_threshold():
    small, full = preset("paper-small"), preset("paper-mvtec-object")
    assert small.model.partitions == full.model.partitions
    assert small.model.items == full.model.items
    assert (small.train.batch_size, small.train.learning_rate, small.score.delta_h) == (20, 0.002, 0.5)
    assert sum(small.model.widths) <= sum(full.model.widths) / 4
    assert small.data.held_out == 0.1
    assert small.data.held_out_min == 20


def test_settings_cannot_be_changed_in_place():
    config = preset()
    with pytest.raises(ValidationError, match="frozen"):
        config.train.steps = 1  # type: ignore[misc]


def test_every_field_is_described():
    assert all(fields().values())
    assert "train.steps" in fields()


# ---------------------------------------------------------------- overrides

TEXTS = {
    "train.steps=500": 500,
    "train.steps = 500": 500,
    "train.steps=1e3": 1000,
    "train.learning_rate=1e-4": 1e-4,
    "train.precision=32": "32",
    "train.precision=bf16": "bf16",
    "train.threads=none": None,
    "train.threads=null": None,
    "train.threads=2": 2,
    "data.bits=16": 16,
    "data.bits=None": None,
    "data.channels=4": 4,
    "data.fit=pad": "pad",
    "data.normal_dir=2024": "2024",
    "data.normal_dir=null": "null",
    "data.normal_dir=a,b": "a,b",
    "data.normal_dir=a=b": "a=b",
    "data.normal_dir=.": ".",
    "data.normal_test_dir=007": "007",
    "data.normal_test_dir=none": None,
    "model.renormalise=true": True,
    "model.renormalise=False": False,
    "model.shrink_threshold=0.002": 0.002,
    "model.widths=8,8,16,16,32": (8, 8, 16, 16, 32),
    "model.widths=[8, 8, 16, 16, 32]": (8, 8, 16, 16, 32),
    "model.widths=(8,8,16,16,32)": (8, 8, 16, 16, 32),
    "score.bins=256": 256,
    "score.delta_h=0": 0,
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_sets_a_field(text):
    group, field = text.partition("=")[0].strip().split(".")
    value = getattr(getattr(preset("paper-small", [text]), group), field)
    assert value == TEXTS[text]
    assert type(value) is type(TEXTS[text]) or isinstance(value, float)


def test_several_texts_are_one_change_and_the_last_wins():
    texts = ["model.memory_levels=1", "model.partitions=4", "model.items=5", "train.steps=1", "train.steps=2"]
    config = preset("paper-small", texts)
    assert (config.model.memory_levels, config.model.partitions, config.model.items) == (1, (4,), (5,))
    assert config.train.steps == 2


def test_no_memory_levels_take_no_numbers():
    config = preset("paper-small", ["model.memory_levels=0", "model.partitions=", "model.items=[]"])
    assert (config.model.partitions, config.model.items) == ((), ())


def test_python_values_set_fields():
    config = preset("paper-small", {"train.steps": 7, "model.items": [2, 3, 4, 5], "data.normal_test_dir": None})
    assert config.train.steps == 7
    assert config.model.items == (2, 3, 4, 5)


def test_an_override_leaves_the_rest_and_the_original_alone():
    before = preset("paper-oct")
    after = override(before, {"train.steps": 9})
    assert before.train.steps == 4000
    assert after == before.model_copy(update={"train": before.train.model_copy(update={"steps": 9})})
    assert after.preset == "paper-oct"


# ---------------------------------------------------------------- mistakes

MISTAKES = {
    "train.step=5": "unknown setting 'train.step': the nearest there is is 'train.steps'. Known: data.size, ",
    "steps=5": "unknown setting 'steps'",
    "preset=x": "unknown setting 'preset'",
    "train.steps": "--set 'train.steps': expected group.field=value, got no '='. For example: --set train.steps=500",
    "train.steps=0": "train.steps: Input should be greater than or equal to 1, got 0 (optimiser steps",
    "train.steps=many": "train.steps: Input should be a valid integer, unable to parse string as an integer, got 'm",
    "train.steps=true": "train.steps: expected neither true nor false, got True",
    "train.learning_rate=true": "train.learning_rate: expected neither true nor false, got True",
    "data.channels=false": "data.channels: expected neither true nor false, got False",
    "model.widths=true,true": "model.widths: expected neither true nor false, got [True, True]",
    "score.weights=true": "score.weights: expected neither true nor false, got [True]",
    "train.steps=2.5": "train.steps: Input should be a valid integer, got a number with a fractional part, got 2.5",
    "train.learning_rate=NaN": "train.learning_rate: Input should be a finite number, got nan",
    "train.learning_rate=-1": "train.learning_rate: Input should be greater than 0, got -1",
    "train.batch_size=100000000000000000000": "train.batch_size: Input should be less than or equal to 1000000, got",
    "model.latent=10000000": "model.latent: Input should be less than or equal to 1000000, got 10000000",
    "model.head_width=10000000": "model.head_width: Input should be less than or equal to 1000000, got 10000000",
    "model.critic_width=10000000": "model.critic_width: Input should be less than or equal to 1000000, got 10000000",
    "model.items=1,2,3,10000000": "model.items: expected numbers up to 1000000, got (1, 2, 3, 10000000)",
    "model.widths=64,1,1,1,10000000": "model.widths: expected numbers up to 1000000, got (64, 1, 1, 1, 10000000)",
    "model.temperature=1e-40": "model.temperature: Input should be greater than or equal to 0.0001, got 1e-40",
    "model.temperature=1e4": "model.temperature: Input should be less than or equal to 100, got 10000.0",
    "train.ssim_sigma=1e-23": "train.ssim_sigma: Input should be greater than or equal to 0.01, got 1e-23",
    "train.ssim_sigma=1e9": "train.ssim_sigma: Input should be less than or equal to 1000, got 1000000000.0",
    **{
        f"train.{name}_weight=1e7": f"train.{name}_weight: Input should be less than or equal to 1000000, got"
        for name in ("mse", "ssim", "gradient", "entropy", "penalty", "adversarial", "head")
    },
    "train.ssim_window=10": "train.ssim_window: expected an odd number, got 10",
    "train.precision=16": "train.precision: Input should be 'auto', '32' or 'bf16', got 16",
    "data.fit=squeeze": "data.fit: Input should be 'stretch', 'pad' or 'crop', got 'squeeze'",
    "data.bits=12": "data.bits: Input should be 8 or 16, got 12",
    "data.size=100": "data.size: expected a multiple of 16 (5 levels halve it), got 100",
    "data.size=4": "data.size: Input should be greater than or equal to 8, got 4",
    "model.network_size=48": "data.size: expected model.network_size (48) times 2, 4, 8, ..., or at most that (0 there "
    "shows the network all), got 128",
    "model.network_size=8": "model.network_size: expected a multiple of 16 (5 levels halve it), got 8",
    "model.network_size=-1": "model.network_size: Input should be greater than or equal to 0, got -1",
    "data.held_out=0.9": "data.held_out: Input should be less than or equal to 0.5, got 0.9",
    "score.delta_h=1": "score.delta_h: Input should be less than 1, got 1",
    "score.bins=1": "score.bins: Input should be greater than or equal to 2, got 1",
    "model.widths=64": "model.widths: expected 2 to 8 positive channel counts, got (64,)",
    "model.widths=64,0,1,1,1": "model.widths: expected 2 to 8 positive channel counts, got (64, 0, 1, 1, 1)",
    "model.widths=a,b": "model.widths: Input should be a valid integer, unable to parse string as an integer, got 'a'",
    "model.memory_levels=6": "model.memory_levels: expected at most 5 (the levels), got 6",
    "model.memory_levels=3": "model.partitions: expected 3 positive numbers (model.memory_levels), got (16, 16, 16, 8)",
    "model.items=1,2,3": "model.items: expected 4 positive numbers (model.memory_levels), got (1, 2, 3)",
    "model.items=1,2,3,0": "model.items: expected 4 positive numbers (model.memory_levels), got (1, 2, 3, 0)",
    "model.partitions=16,16,16,5": "numbers that divide the heights of their levels; level 4 is 16 high, got 5",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_with_field_expectation_and_finding(text):
    with pytest.raises(ConfigError, match=re.escape(MISTAKES[text])):
        preset("paper-small", [text])


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("small", 160, "got 160. With all else as it is, data.size=128 or 256 goes"),
        ("small", 96, "got 16. With all else as it is, data.size=64 or 128 goes"),
        ("paper-small", 100, "got 100. With all else as it is, data.size=64 or 128 goes"),
        ("fast", 5000, "With all else as it is, data.size=1024 goes"),
    ],
)
def test_sizes_that_go_are_named(name, size, told):
    with pytest.raises(ConfigError) as caught:
        preset(name, {"data.size": size})
    assert told in str(caught.value)


def test_no_size_is_named_where_none_goes():
    with pytest.raises(ConfigError) as caught:
        preset("small", ["train.steps=0"])
    assert "data.size=" not in str(caught.value)


HEAD = {"model.head_width": 4, "train.corrupt": 0.5}
LOW = {"model.memory_levels": 1, "model.partitions": [1], "model.items": [1]}
NO_MEMORY = {"model.memory_levels": 0, "model.partitions": [], "model.items": []}
MISFITS = {  # settings that each are possible, and not together
    "bergmann has no memories": (
        {"model.trunk": "bergmann"},
        "model.memory_levels: expected 0 for model.trunk=bergmann, which has no place for memories (the preset ae-l2",
    ),
    "bergmann's size": (
        {"model.trunk": "bergmann", **NO_MEMORY, "data.size": 40},
        "data.size: expected a multiple of 16 for model.trunk=bergmann, got 40",
    ),
    "bergmann's output": (
        {"model.trunk": "bergmann", **NO_MEMORY, "model.output": "sigmoid"},
        "model.output: expected linear for model.trunk=bergmann, got 'sigmoid'",
    ),
    "one item of mnad": (
        {**LOW, "model.memory": "mnad"},
        "model.items: expected 2 or more for model.memory=mnad, which asks for a second nearest, got 1",
    ),
    "one item that is shrunk away": (
        {**LOW, "model.shrinkage": "soft"},
        "model.items: expected 2 or more for model.shrinkage=soft, since a single item's weight is its threshold 1/m, ",
    ),
    "the critic's size": (
        {**NO_MEMORY, "model.widths": [4, 4], "model.critic_width": 4, "data.size": 24},
        "data.size: expected a multiple of 16 for model.critic_width above 0, got 24",
    ),
    "an image too small for the critic": (
        {**NO_MEMORY, "model.widths": [4, 4], "model.critic_width": 4, "data.size": 8},
        "data.size: expected a multiple of 16 for model.critic_width above 0, got 8",
    ),
    "the head's size": (
        {**NO_MEMORY, **HEAD, "model.widths": [4, 4], "data.size": 30},
        "data.size: expected a multiple of 8 for model.head_width above 0, got 30",
    ),
    "a head without defects": (
        {"model.head_width": 4},
        "train.corrupt: expected above 0 for model.head_width above 0: defects to learn from, got 0",
    ),
    "a head that learns nothing": (
        {**HEAD, "train.head_weight": 0},
        "train.head_weight: expected above 0 for model.head_width above 0, got 0",
    ),
    "no one to fool": (
        {"train.adversarial_weight": 0.1},
        "model.critic_width: expected above 0 for train.adversarial_weight above 0: a discriminator to fool, got 0",
    ),
    "nothing to shrink": (
        {**NO_MEMORY, "train.entropy_weight": 0.1},
        "train.entropy_weight: expected 0 where no memory stands (model.memory, model.memory_levels), got 0.1",
    ),
    "nothing to penalise": (
        {"model.memory": "none", "train.penalty_weight": 0.1},
        "train.penalty_weight: expected 0 where no memory stands (model.memory, model.memory_levels), got 0.1",
    ),
    "the average of items that are moved": (
        {**LOW, "model.items": [7], "model.memory": "mnad", "train.average": 0.5},
        "train.average: expected 0 for model.memory=mnad, whose items are moved, not learnt: their average is none, ",
    ),
    "a temperature that could not be learnt": (
        {"model.temperature": 0.001, "model.learn_temperature": True},
        "model.temperature: expected 0.005 or more for model.learn_temperature, which does not fall below, got 0.001",
    ),
    "an image too small for SSIM's window": (
        {
            **NO_MEMORY,
            "model.widths": [4, 4],
            "model.network_size": 4,
            "data.size": 8,
            "score.parts": ["ssim"],
            "train.ssim_window": 5,
        },
        "model.network_size: expected 6 or more for the part 'ssim', got 4",
    ),
    "an image too small for defects": (
        {
            **NO_MEMORY,
            "model.widths": [4, 4],
            "model.network_size": 4,
            "data.size": 8,
            "train.corrupt": 0.5,
            "train.ssim_window": 5,
        },
        "model.network_size: expected 8 or more for train.corrupt above 0, got 4",
    ),
    "nothing to learn": (
        {"train.mse_weight": 0, "train.ssim_weight": 0},
        "train.mse_weight: expected one of mse_weight, ssim_weight and gradient_weight above 0, got 0 for all",
    ),
    "a bottleneck of one pixel in batches of one": (
        {"data.size": 16, "model.partitions": [1, 1, 1, 1], "train.batch_size": 1},
        "train.batch_size: expected 2 or more where the lowest of 5 levels is a single pixel (data.size 16), got 1",
    ),
    "a head of one pixel in batches of one": (
        {**NO_MEMORY, **HEAD, "model.widths": [4, 4], "data.size": 8, "train.batch_size": 1},
        "train.batch_size: expected 2 or more where the lowest of the head's 4 levels is a single pixel (data.size 8)",
    ),
    "a filter wider than the image": ({"score.smooth": 129}, "score.smooth: expected at most data.size (128), got 129"),
    "an even filter": ({"score.smooth": 4}, "score.smooth: expected an odd number, got 4"),
    "a part without its head": (
        {"score.parts": "head"},
        "score.parts: expected model.head_width above 0 for the part 'head', got 0",
    ),
    "a product without its head": (
        {"model.bank": 1000, "score.parts": "marked"},
        "score.parts: expected model.head_width above 0 for the part 'marked', got 0",
    ),
    "a product without its bank": (
        {**HEAD, "score.parts": "marked"},
        "score.parts: expected model.bank above 0 for the part 'marked', got 0",
    ),
    "a part without its critic": (
        {"score.parts": "latent"},
        "score.parts: expected model.critic_width above 0 for the part 'latent', got 0",
    ),
    "a part without levels of memory": (
        {**NO_MEMORY, "score.parts": "memory"},
        "score.parts: expected model.memory_levels above 0 for the part 'memory', got 0",
    ),
    "a part without a memory": (
        {"model.memory": "none", "score.parts": "memory"},
        "model.memory: expected a memory for the part 'memory', got 'none'",
    ),
    "an unknown part": ({"score.parts": "absolut"}, "score.parts: Input should be 'absolute', 'squared', 'ssim', "),
    "no part": (
        {"score.parts": "", "score.weights": ""},
        "score.parts: Tuple should have at least 1 item after validation, not 0",
    ),
    "a part twice": (
        {"score.parts": "ssim,ssim", "score.weights": "1,1"},
        "score.parts: expected each part once, got ('ssim', 'ssim')",
    ),
    "a weight too few": (
        {"score.parts": "absolute,squared"},
        "score.weights: expected 2 numbers of 0 or more (score.parts), got (1.0,)",
    ),
    "a weight beyond reason": (
        {"score.weights": "1e38"},
        "score.weights: expected numbers up to 1e+06, got (1e+38,)",
    ),
    "a weight below 0": ({"score.weights": "-1"}, "score.weights: expected 1 numbers of 0 or more (score.parts), got"),
    "weights of nothing": ({"score.weights": "0"}, "score.weights: expected one at least above 0, got (0.0,)"),
    "places that fall": (
        {"model.memory_at": "4,3,2,1"},
        "model.memory_at: expected 4 rising levels (model.memory_levels) of 1 to 5, got (4, 3, 2, 1)",
    ),
    "a place twice": ({"model.memory_at": "1,2,2,3"}, "model.memory_at: expected 4 rising levels"),
    "too few places": ({"model.memory_at": "5"}, "model.memory_at: expected 4 rising levels"),
    "a place below the bottleneck": ({"model.memory_at": "1,2,3,6"}, "of 1 to 5, got (1, 2, 3, 6)"),
    "a place above the first": ({"model.memory_at": "0,1,2,3"}, "of 1 to 5, got (0, 1, 2, 3)"),
    "partitions of another level": (
        {"model.memory_at": "1,2,4,5", "model.partitions": "16,16,16,16"},
        "divide the heights of their levels; level 5 is 8 high, got 16",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_settings_that_do_not_fit_each_other_are_told(case):
    overrides, words = MISFITS[case]
    with pytest.raises(ConfigError, match=re.escape(words)):
        preset("paper-small", overrides)


FITS = {
    "a memory at the bottleneck": {**LOW, "model.memory_at": [5], "model.items": [7]},
    "one item that is not shrunk": {**LOW, "model.shrinkage": "none"},
    "one item and a threshold": {**LOW, "model.shrink_threshold": 0.5},
    "a head": {**HEAD, "score.parts": ["head"]},
    "a critic that only scores": {"model.critic_width": 4, "score.parts": ["latent"]},
    "places named": {"model.memory_at": "1,2,3,4"},
    "a filter as wide as the image": {"data.size": 80, "model.partitions": [1, 1, 1, 1], "score.smooth": 79},
    "a weight of 0 beside others": {"score.parts": "absolute,gradient", "score.weights": "0,1"},
    "one image a step": {"train.batch_size": 1},
    "bergmann, whatever the widths": {
        **NO_MEMORY, "model.trunk": "bergmann", "data.size": 48, "model.widths": [4] * 8, "train.batch_size": 1
    },
    "a window that no loss looks through": {
        **NO_MEMORY, "model.widths": [4, 4], "model.network_size": 4, "data.size": 8, "train.ssim_weight": 0
    },
    "the coldest that can be learnt": {"model.temperature": 0.005, "model.learn_temperature": True},
    "gradients alone": {"train.mse_weight": 0, "train.ssim_weight": 0, "train.gradient_weight": 1},
}  # fmt: skip


@pytest.mark.parametrize("case", FITS)
def test_settings_that_fit_are_taken(case):
    preset("paper-small", FITS[case])


@pytest.fixture
def train(capsys, monkeypatch, tmp_path):
    """`normbank train` of images that are not there, in this process, with changes: its exit code and words."""
    before = signal.getsignal(signal.SIGTERM)

    def train(*changes):
        given = [part for text in changes for part in ("--set", text)]
        arguments = ["normbank", "train", "absent", "--out", str(tmp_path / "run"), "--preset", "paper-small", *given]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as left:
            cli.main()
        came = capsys.readouterr()
        assert came.out == ""
        assert not list(tmp_path.iterdir())
        return left.value.code, came.err

    yield train
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("case", [*MISTAKES, *MISFITS])
def test_train_tells_them_with_exit_code_2_before_it_asks_for_the_images(train, case):
    overrides, words = ({}, MISTAKES[case]) if case in MISTAKES else MISFITS[case]
    texts = [case] if case in MISTAKES else [f"{name}={_as_text(value)}" for name, value in overrides.items()]
    code, told = train(*texts)
    assert code == 2
    assert told.startswith("normbank: ")
    assert words in told
    assert "Traceback" not in told


def test_train_tells_an_unknown_memory_with_exit_code_2(tiny_data, tmp_path, capsys, monkeypatch):
    """Which memories there are is known where PyTorch is; no image is read for it."""
    monkeypatch.setattr("normbank.preparing.load_all", lambda *_: pytest.fail("read"))
    changes = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    given = ["train", str(tiny_data), "--out", str(tmp_path / "run"), *changes, "--set", "model.memory=attic"]
    monkeypatch.setattr("sys.argv", ["normbank", *given, "--preset", "paper-small"])
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        cli.main()
    signal.signal(signal.SIGTERM, before)
    told = capsys.readouterr().err
    assert left.value.code == 2
    assert "normbank: model.memory: expected one of pmb, none, memae, blocks, mnad, got 'attic'" in told
    assert "Traceback" not in told


def _as_text(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(
    ("name", "near"), [("paper-smal", "paper-small"), ("mnist", "paper-mnist"), ("paper-OCT", "paper-")]
)
def test_an_unknown_preset_names_the_nearest(name, near):
    with pytest.raises(ConfigError, match=rf"unknown preset '{name}': the nearest there is is '{near}.*Known: paper-"):
        preset(name)


def test_the_network_may_see_less_than_the_bank():
    config = preset("fast")
    assert (config.data.size, config.network_size, config.reduction) == (256, 128, 2)
    assert preset("fast", {"data.size": 1024}).reduction == 8
    assert preset("fast", {"data.size": 1024, "model.network_size": 0}).network_size == 1024


@pytest.mark.parametrize("size", [128, 64])
def test_a_network_that_sees_all_is_written_in_one_way(size):
    config = preset("fast", {"data.size": size, "model.partitions": [1, 1, 1, 1]})
    assert (config.model.network_size, config.network_size, config.reduction) == (0, size, 1)
    plain = preset("fast", {"data.size": size, "model.partitions": [1, 1, 1, 1], "model.network_size": 0})
    assert config == plain == from_dict(config.model_dump())


def test_settings_without_a_size_of_the_network_are_those_before_there_was_one():
    older = preset("paper-small").model_dump(mode="json")
    del older["model"]["network_size"]
    assert completed(older) == preset("paper-small").model_dump(mode="json")


def test_a_window_wider_than_the_image():
    small = {"data.size": 16, "model.partitions": [1, 1, 1, 1], "train.ssim_window": 33}
    with pytest.raises(ConfigError, match=r"train.ssim_window: expected less than twice data.size \(16\), got 33"):
        preset("paper-small", small)


def test_an_unknown_python_field_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown setting 'model.width': the nearest there is is 'model.widths'"):
        preset("paper-small", {"model.width": (1, 2)})


def test_settings_of_another_version_are_named():
    values = preset().model_dump()
    values["train"]["momentum"] = 0.9
    with pytest.raises(ConfigError, match=r"unknown setting 'train.momentum': the nearest there is is"):
        from_dict(values)
    with pytest.raises(ConfigError, match="model: Input should be a valid dictionary"):
        from_dict({"model": "pmb"})


def test_the_groups_stand_alone():
    assert Config().data == Data()
    assert Model().levels == 5
