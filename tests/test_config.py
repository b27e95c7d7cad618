"""Settings: the presets, the paper's numbers, overrides and the words of their errors."""

from __future__ import annotations

import json
import re

import pytest
from pydantic import ValidationError

from normbank.config import DEFAULT_PRESET, PRESETS, Config, Data, Model, fields, from_dict, override, preset
from normbank.errors import ConfigError

# Section IV-A of the paper, copied by hand: L, p, k, m, batch.
PRINTED = {
    "paper-mvtec-texture": (5, 4, (32, 16, 16, 8), (150, 200, 200, 200), 20),
    "paper-mvtec-object": (5, 4, (16, 16, 16, 8), (150, 200, 200, 200), 20),
    "paper-mnist": (3, 3, (1, 1, 1), (10, 10, 10), 64),
    "paper-oct": (4, 3, (2, 2, 2), (10, 10, 10), 20),
}


# ---------------------------------------------------------------- presets


def test_the_presets_there_are():
    assert set(PRESETS) == {*PRINTED, "paper-small"}
    assert DEFAULT_PRESET == "paper-small"


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
    config = preset("paper-small", {"train.steps": 7, "model.items": [1, 2, 3, 4], "data.normal_test_dir": None})
    assert config.train.steps == 7
    assert config.model.items == (1, 2, 3, 4)


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
    "train.steps=2.5": "train.steps: Input should be a valid integer, got a number with a fractional part, got 2.5",
    "train.learning_rate=NaN": "train.learning_rate: Input should be a finite number, got nan",
    "train.learning_rate=-1": "train.learning_rate: Input should be greater than 0, got -1",
    "train.ssim_window=10": "train.ssim_window: expected an odd number, got 10",
    "train.precision=16": "train.precision: Input should be 'auto', '32' or 'bf16', got 16",
    "data.fit=squeeze": "data.fit: Input should be 'stretch', 'pad' or 'crop', got 'squeeze'",
    "data.bits=12": "data.bits: Input should be 8 or 16, got 12",
    "data.size=100": "data.size: expected a multiple of 16 (5 levels halve it), got 100",
    "data.size=4": "data.size: Input should be greater than or equal to 8, got 4",
    "data.held_out=0.9": "data.held_out: Input should be less than or equal to 0.5, got 0.9",
    "score.delta_h=1": "score.delta_h: Input should be less than 1, got 1",
    "score.bins=1": "score.bins: Input should be greater than or equal to 2, got 1",
    "model.widths=64": "model.widths: expected 2 to 8 positive channel counts, got (64,)",
    "model.widths=64,0,1,1,1": "model.widths: expected 2 to 8 positive channel counts, got (64, 0, 1, 1, 1)",
    "model.widths=a,b": "model.widths: Input should be a valid tuple, got 'a,b'",
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


@pytest.mark.parametrize(("name", "near"), [("paper-smal", "paper-small"), ("mnist", "paper-mnist"), ("OCT", "paper-")])
def test_an_unknown_preset_names_the_nearest(name, near):
    with pytest.raises(ConfigError, match=rf"unknown preset '{name}': the nearest there is is '{near}.*Known: paper-"):
        preset(name)


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
