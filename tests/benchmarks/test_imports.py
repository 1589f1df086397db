"""No benchmark's module imports, in the end, itself."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_no_two_benchmarks_import_each_other() -> None:
    files = {path.stem: path for path in BENCHMARKS.glob("*.py")}
    known = {name: imported(path) & files.keys() for name, path in files.items()}
    TopologicalSorter(known).prepare()
