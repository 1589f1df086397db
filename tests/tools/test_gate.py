"""The two packages: what each declares, and that their metadata agree."""

import re
import tomllib
from pathlib import Path

import gate_wheel
import pytest
import yaml

from geofilter.cli.main import LEFT_OUT

ROOT = Path(__file__).parents[2]
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GATE = tomllib.loads((ROOT / "tools" / "gate" / "pyproject.toml").read_text())["project"]
# Where a package and its module have different names.
MODULES = {"faiss-cpu": "faiss", "pyyaml": "yaml", "sae-lens": "sae_lens"}


def module(requirement: str) -> str:
    name = re.split(r"[^\w-]", requirement)[0]
    return MODULES.get(name, name)


@pytest.mark.parametrize(
    "key", ["version", "requires-python", "license", "license-files", "classifiers", "scripts"]
)
def test_both_packages_say_the_same(key: str) -> None:
    assert GATE[key] == WHOLE[key]


def test_the_gate_asks_for_nothing_that_the_whole_does_not() -> None:
    gate = {*GATE["dependencies"], *GATE["optional-dependencies"]["tables"]}
    assert gate < set(WHOLE["dependencies"])


def test_what_the_gate_leaves_out_has_a_remedy_on_the_command_line() -> None:
    left = {module(one) for one in {*WHOLE["dependencies"]} - {*GATE["dependencies"]}}
    # `multiprocess` comes with `datasets`.
    assert left | {"multiprocess"} == set(LEFT_OUT)


def test_each_extra_is_named_by_a_message_or_makes_the_developer_s_tools() -> None:
    """An extra without a user is left out of the metadata."""
    source = "".join(path.read_text() for path in (ROOT / "geofilter").rglob("*.py"))
    for extra in {*WHOLE["optional-dependencies"]} - {"dev"}:
        assert f"geofilter[{extra}]" in source


def test_the_gate_s_wheel_has_the_code_and_no_weights(tmp_path: Path) -> None:
    """All of geofilter's modules, the type marker and the license; no data of models."""
    with gate_wheel.tree():
        here = Path.cwd()
        found = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "geofilter").rglob("*.py")}
    assert code <= found
    assert {"LICENSE", "README.md", "pyproject.toml", "geofilter/py.typed"} <= found
    assert not [name for name in found if name.endswith((".safetensors", ".jsonl", ".pack"))]


def test_the_page_s_hook_pins_all_that_the_gate_installs() -> None:
    page = (ROOT / "docs" / "gate.md").read_text()
    found = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (block,) = [block for block in found if "geofilter-gate" in block]
    (repo,) = yaml.safe_load(block)["repos"]
    (hook,) = repo["hooks"]
    assert (repo["repo"], hook["language"]) == ("local", "python")
    gate, *pins = hook["additional_dependencies"]
    assert re.fullmatch(r"geofilter-gate @ git\+https://\S+@COMMIT#subdirectory=tools/gate", gate)
    tested = set((ROOT / "constraints.txt").read_text().splitlines())
    assert set(pins) <= tested
    assert {pin.split("==")[0] for pin in pins} == {module(one) for one in GATE["dependencies"]}
