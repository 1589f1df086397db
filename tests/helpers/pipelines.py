"""What operators need of other people's pipelines: the packages, or else tiny stand-ins.

Each stand-in has the interface of the version that docs/pipelines.md names, as far as an
operator uses it. Where a package is installed, the operator is tried with that.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, Generic, TypeVar

import pytest
from pydantic import BaseModel


@dataclass
class Document:
    text: Any
    id: str
    metadata: dict[str, Any] = field(default_factory=dict)


class _BaseFilter:
    def __init__(self, exclusion_writer: Any = None, batch_size: int = 1) -> None:
        self.exclusion_writer = exclusion_writer
        self.batch_size = batch_size

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        documents = list(data)
        with self.exclusion_writer as writer:
            for start in range(0, len(documents), self.batch_size):
                batch = documents[start : start + self.batch_size]
                for doc, answer in zip(batch, self.filter_batch(batch), strict=True):  # type: ignore[attr-defined]
                    assert isinstance(doc.text, str | list)  # its length is counted
                    if answer is True:
                        yield doc
                    else:
                        doc.metadata["filter_reason"] = answer[1]
                        writer.write(doc, rank)


class _Step(BaseModel):
    name: str | None = None

    def load(self) -> None:
        pass


class _Operators:
    def register_module(self, name: str) -> Callable[[type], type]:
        return lambda operator: operator


class _Filter:
    def __init__(self, *_: Any, **__: Any) -> None:
        self.compute_stats = self.compute_stats_batched  # type: ignore[attr-defined]
        self.process = self.process_batched  # type: ignore[attr-defined]


_X, _Y = TypeVar("_X"), TypeVar("_Y")


class _Stage(Generic[_X, _Y]):
    name = "stage"


@dataclass
class DocumentBatch:
    dataset_name: str
    data: Any

    def to_pandas(self) -> Any:
        return self.data


_STAND_INS: dict[str, dict[str, dict[str, Any]]] = {
    "datatrove": {
        "datatrove.pipeline.filters.base_filter": {"BaseFilter": _BaseFilter},
        "datatrove.data": {"Document": Document},
    },
    "distilabel": {
        "distilabel.steps.base": {
            "Step": _Step,
            "StepInput": Annotated[list[dict[str, Any]], "step input"],
        }
    },
    "data_juicer": {
        "data_juicer.ops.base_op": {"OPERATORS": _Operators(), "Filter": _Filter},
        "data_juicer.utils.constant": {
            "Fields": SimpleNamespace(stats="__dj__stats__", context="__dj__context__")
        },
    },
    "nemo_curator": {
        "nemo_curator.stages.base": {"ProcessingStage": _Stage},
        "nemo_curator.tasks": {"DocumentBatch": DocumentBatch},
    },
    "axolotl": {"axolotl.integrations.base": {"BasePlugin": object}},
}


def operator(package: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of geofilter's operator for `package`, with a stand-in where that is absent."""
    if importlib.util.find_spec(package) is None:
        for name, values in _STAND_INS[package].items():
            for end in range(1, name.count(".") + 1):
                above = ".".join(name.split(".")[:end])
                monkeypatch.setitem(sys.modules, above, ModuleType(above))
            module = ModuleType(name)
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)
    name = f"geofilter.integrations.{package}"
    # Not the one of another test, which had another stand-in.
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module
