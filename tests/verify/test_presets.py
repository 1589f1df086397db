"""What `verify --help` says of a model's own defaults is what its preset holds."""

import re

import pytest

from geofilter.cli.verify import command
from geofilter.verify.presets import PRESETS, own_defaults


@pytest.mark.parametrize("name", PRESETS)
def test_the_own_defaults_of_a_model_are_options_with_the_values_of_its_preset(name):
    parts = own_defaults().split("The defaults of ")
    (said,) = (part for part in parts if f"model {name} " in part)
    options = {option for one in command.params for option in one.opts}
    assert set(re.findall(r"--[a-z-]+", said)) <= options
    preset = PRESETS[name]
    for values in (preset.recipe, preset.sampling):
        for value in values.values():
            assert f" {value:g}" in said if isinstance(value, float) else f" {value}" in said


def test_the_help_ends_with_them(geofilter):
    shown = " ".join(geofilter("verify --help").out.split())
    assert shown.endswith(" ".join(own_defaults().split()))
