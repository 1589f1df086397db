"""Settings hold only what a run can be made with, and load nothing."""

import subprocess
import sys

import pytest

from geofilter import settings
from geofilter.errors import GeofilterError
from geofilter.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("model", 7, "a text"),
        ("block", -1, "a whole number, 0 or more"),
        ("block", True, "a whole number, 0 or more"),
        ("max_length", 0, "a whole number, 1 or more"),
        ("max_length", 4.0, "a whole number, 1 or more"),
        ("proximity", "median", "one of mean, nearest"),
        ("dtype", "int8", "one of float32, bfloat16"),
        ("last_turn", "yes", "true or false"),
    ],
)
def test_a_value_that_a_field_cannot_hold_is_named_with_what_it_can_hold(name, value, wanted):
    with pytest.raises(GeofilterError) as refused:
        Settings(**{"model": "m", name: value})
    assert str(refused.value).startswith(f"{name} {value}: is not {wanted}")


def test_every_default_fits_its_own_field():
    assert Settings("m").block is None
    for name in vars(Settings("m")):
        assert settings.about(name)


def test_settings_load_no_library_that_takes_time():
    code = "import sys, geofilter.settings; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "pyarrow", "click"}.isdisjoint(done.stdout.split())
