"""What TRL's SFTTrainer makes of one row, by its own code and without a model."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl import SFTTrainer


class _Rows(list[dict[str, Any]]):
    """Rows as TRL prepares them: the part of `datasets` that it uses, without Arrow.

    Arrow would give each row the keys of all others.
    """

    @property
    def column_names(self) -> list[str]:
        return list(self[0])

    def map(
        self,
        function: Callable[..., dict[str, Any]],
        fn_kwargs: dict[str, Any] | None = None,
        remove_columns: str | list[str] | None = None,
        **_: object,
    ) -> "_Rows":
        gone = [remove_columns] if isinstance(remove_columns, str) else remove_columns or []
        mapped = ({**row, **function(row, **(fn_kwargs or {}))} for row in self)
        return _Rows({key: row[key] for key in row if key not in gone} for row in mapped)

    def filter(self, function: Callable[[dict[str, Any]], bool], **_: object) -> "_Rows":
        return _Rows(row for row in self if function(row))


@dataclass(frozen=True)
class TrlRow:
    """Token ids, and where the labels are not -100."""

    ids: list[int]
    mask: list[bool]


def trl_row(
    tokenizer: PreTrainedTokenizerBase,
    columns: dict[str, Any],
    *,
    chat_template: str | None = None,
    assistant_only: bool,
) -> TrlRow:
    """The row as SFTTrainer prepares it; `chat_template` stands for a training template.

    Raises what the trainer raises when it refuses the row.
    """
    trainer = SimpleNamespace(
        _tokenizer=tokenizer, chat_template=chat_template, completion_only_loss=True
    )
    arguments = SimpleNamespace(
        dataset_num_proc=None,
        dataset_text_field="text",
        assistant_only_loss=assistant_only,
        max_length=None,
        shuffle_dataset=False,
    )
    prepared: Iterator[dict[str, Any]] = SFTTrainer._prepare_dataset(
        trainer, _Rows([deepcopy(columns)]), tokenizer, arguments, False, None, "train"
    )
    (example,) = prepared
    return TrlRow(example["input_ids"], [label != -100 for label in example["labels"]])
