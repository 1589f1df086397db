"""Modules of rows can be imported in any order: each command begins with another one."""

import pkgutil
import subprocess
import sys

import geofilter.data

ALONE = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [one for one in sys.modules if one.startswith("geofilter")]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""


def test_every_module_of_rows_can_be_the_first_that_is_imported() -> None:
    found = pkgutil.walk_packages(geofilter.data.__path__, "geofilter.data.")
    names = [module.name for module in found]
    done = subprocess.run([sys.executable, "-c", ALONE, *names], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(names) > 20
