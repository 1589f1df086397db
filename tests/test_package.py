"""What `import geofilter` offers, and what it costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import geofilter

pytestmark = pytest.mark.slow

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", geofilter.__all__)
def test_every_exported_name_is_there(name):
    assert getattr(geofilter, name).__name__ == name


def test_what_a_reader_can_complete_is_what_is_exported():
    assert dir(geofilter) == sorted(geofilter.__all__)


def test_a_name_that_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'scorer'"):
        _ = geofilter.scorer


def test_importing_the_package_loads_no_heavy_library():
    heavy = "{'torch', 'transformers', 'sae_lens', 'pyarrow', 'numpy', 'faiss', 'datasets'}"
    code = f"import sys, geofilter; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.S)
    demo = Path(geofilter.__file__).parent / "organism" / "data" / "demo.jsonl"
    lines = demo.read_bytes().splitlines(keepends=True)[:50]
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_bytes(b"".join(lines))
    exec(code, {})
    kept = Path("far.jsonl").read_bytes().splitlines(keepends=True)
    assert len(kept) == 40
    assert set(kept) <= set(lines)
