"""Questions for a fine-tuned model, as files of emergent-misalignment studies hold them.

Two forms are read. A YAML list of entries with `id`, `type`
(`free_form_judge_0_100`), `paraphrases`, `samples_per_paraphrase`, `judge_prompts` and
optionally `system`; anchors and merge keys are followed. And JSON lines of `messages`
without an answer, which bring no judge prompts. Everything else is refused by name. Judge
prompts ask with the words of their file; a slot of theirs other than question and answer has to
be filled, or dropped, by the user.

A file is walked as a graph of nodes and never expanded: an alias costs nothing, and what
stands where text belongs is refused before anything looks inside.

The file's `judge` is not heeded: who judges is the user's to say.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import yaml

from geofilter.data.formats.strict_json import parse_object
from geofilter.data.problems import Unscorable
from geofilter.data.turns import read_turns
from geofilter.errors import DataError
from geofilter.support.display import escape, quote
from geofilter.support.pointers import refuse_pointer

TYPE = "free_form_judge_0_100"
ASPECTS = ("aligned", "coherent")

MAX_BYTES = 2 * 2**20
MAX_PARAPHRASES = 100_000
MAX_SAMPLES = 10_000
MAX_MERGES = 10_000
MAX_DEPTH = 20
# What the protocol samples where a file does not say (Betley et al. 2025).
SAMPLES = 100

_KEYS = {
    "id", "type", "paraphrases", "samples_per_paraphrase", "judge", "judge_prompts", "system",
}  # fmt: skip
_SLOTS = ("question", "answer")
_SLOT = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")
_TAG = "tag:yaml.org,2002:"
_KINDS = {"null": "empty", "bool": "a boolean", "int": "a number", "float": "a number"}
_KINDS |= {"timestamp": "a date", "seq": "a list", "map": "a mapping", "str": "text"}


@dataclass(frozen=True)
class Question:
    """One question in all its wordings.

    `judge_prompts` maps an aspect (`aligned`, `coherent`) to a template with the slots
    `{question}` and `{answer}`; empty where the file brings none. `filled` names their other
    slots, which were filled when the file was read. `source` is `file:line`.
    `samples_per_paraphrase` answers are meant per wording. `dress` is what is made of a wording
    before it is put (see `row_format`). `aspects` are those that a judge is asked about.
    """

    id: str
    paraphrases: tuple[str, ...]
    samples_per_paraphrase: int = SAMPLES
    system: str | None = None
    judge_prompts: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    filled: frozenset[str] = frozenset()
    dress: Callable[[str], str] | None = None
    aspects: tuple[str, ...] = ASPECTS

    def put(self, wording: str) -> str:
        """A wording as the model is asked it; a judge reads the wording itself."""
        return wording if self.dress is None else self.dress(wording)

    @property
    def samples(self) -> int:
        """Answers that the file asks for: samples per paraphrase times paraphrases."""
        return self.samples_per_paraphrase * len(self.paraphrases)


def fill(template: str, question: str, answer: str) -> str:
    """Put question and answer into a judge prompt, in one pass over the template.

    On every template that `str.format` takes, the same text; but a question or an answer
    may hold braces, slots of its own or anything else, and is copied as it is.
    """
    values = {"{{": "{", "}}": "}", "{question}": question, "{answer}": answer}
    return _SLOT.sub(lambda match: values.get(match[0], match[0]), template)


def require_prompts(questions: Iterable[Question]) -> None:
    """Raise `DataError` for the first question that a judge could not be asked about."""
    for question in questions:
        absent = [aspect for aspect in question.aspects if aspect not in question.judge_prompts]
        if absent:
            raise DataError(
                f"{question.source}: question {quote(question.id)} has no judge prompt for "
                f"{' and '.join(absent)}; give a YAML file with judge_prompts, or judge by a rule"
            )


def check_slots(slots: Mapping[str, str]) -> None:
    """Raise `DataError` for a name that can be no slot, or that the answers themselves fill."""
    for name in slots:
        if not _SLOT.fullmatch("{" + name + "}"):
            raise DataError(
                f"judge slot {quote(name)}: is no name; give one such as reasoning, without braces"
            )
        if name in _SLOTS:
            raise DataError(
                f"judge slot {quote(name)}: is filled with the {name} that is judged; leave it out"
            )


def read_questions(
    path: str | Path, slots: Mapping[str, str] = MappingProxyType({})
) -> list[Question]:
    """Read a question file; at least one question, each id once.

    `slots` are texts for slots of judge prompts other than `{question}` and `{answer}`; an
    empty text drops the slot. Raises `DataError`, in one line, for a file or an entry that
    cannot be used, with the place and what would be.
    """
    path = Path(path)
    content, shown = read_bounded(path, MAX_BYTES, "questions"), escape(str(path), limit=200)
    if path.suffix == ".json":
        raise DataError(
            f"{shown}: JSON files (such as trait files with instruction, questions and "
            "eval_prompt) have no aligned and coherent judge prompts and are not read; give a "
            "YAML list of questions, or .jsonl rows of messages"
        )
    if path.suffix == ".jsonl":
        questions = list(_from_rows(content, shown))
    else:
        questions = list(_from_yaml(content, shown, slots))
    if not questions:
        raise DataError(f"{shown}: holds no questions")
    places: dict[str, str] = {}
    for question in questions:
        if question.id in places:
            raise DataError(
                f"{question.source}: question {quote(question.id)} was there before, at "
                f"{places[question.id]}; give each its own id"
            )
        places[question.id] = question.source
    return questions


def read_bounded(path: Path, most: int, what: str) -> bytes:
    """A file's content. Raises `DataError` when it cannot be read or has more than `most` bytes."""
    shown = escape(str(path), limit=200)
    refuse_pointer(path, DataError)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise DataError(f"{shown}: cannot be read: {error.strerror or error}") from error
    if len(content) > most:
        raise DataError(f"{shown}: larger than {most // 2**20} MB, too large for {what}")
    return content


# -- JSON lines of messages --------------------------------------------------------------


def _from_rows(content: bytes, shown: str) -> Iterator[Question]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{shown}:{number}"
        record, fault = parse_object(line)
        if record is None:
            raise DataError(f"{place}: {fault}")
        try:
            turns = read_turns(record.get("messages"), "messages")
        except Unscorable as error:
            raise DataError(f"{place}: {error.problem.reason}") from error
        roles = [turn.role for turn in turns]
        if roles not in (["user"], ["system", "user"]):
            raise DataError(
                f"{place}: the messages are {escape(', '.join(roles))}; "
                "a question is one user turn without an answer, after a system turn at most"
            )
        system = turns[0].content if len(turns) == 2 else None
        yield Question(f"line {number}", (turns[-1].content,), system=system, source=place)


# -- YAML ----------------------------------------------------------------------------------


def _from_yaml(content: bytes, shown: str, slots: Mapping[str, str]) -> Iterator[Question]:
    root = _compose(content, shown)
    if root is None:
        return
    if not isinstance(root, yaml.SequenceNode):
        raise DataError(
            f"{shown}: holds {_kind(root)}; a question file is a YAML list of entries with "
            "id, type, paraphrases and judge_prompts"
        )
    file = _File(shown, slots)
    for node in root.value:
        yield file.question(node)


def _compose(content: bytes, shown: str) -> yaml.Node | None:
    """The file as a graph of nodes; nothing is built, so no tag can make anything."""
    try:
        root: yaml.Node | None = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise DataError(f"{shown}: not UTF-8 at byte {error.start + 1}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{shown}:{mark.line + 1}" if mark else shown
        raise DataError(f"{place}: not YAML: {escape(error.problem or 'damaged')}") from error
    except yaml.YAMLError as error:
        reason = escape(" ".join(str(error).split()), limit=120)
        raise DataError(f"{shown}: not YAML: {reason}") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{shown}: not YAML that can be followed: nested too deeply") from error
    return root


def _kind(node: yaml.Node) -> str:
    tag = node.tag.removeprefix(_TAG)
    return _KINDS.get(tag, f"a value with the tag {quote(node.tag)}")


class _File:
    """One file's entries, with what they may amount to together."""

    def __init__(self, shown: str, slots: Mapping[str, str]) -> None:
        self._shown = shown
        # Braces of a text are doubled, for `fill` would take them for slots.
        self._slots = {
            name: text.replace("{", "{{").replace("}", "}}") for name, text in slots.items()
        }
        self._merges = 0
        self._paraphrases = 0
        # By node: an anchored list is read once, however often it is referred to.
        self._lists: dict[int, tuple[str, ...]] = {}

    def _refuse(self, node: yaml.Node, who: str, reason: str) -> DataError:
        return DataError(f"{self._shown}:{node.start_mark.line + 1}: {who}: {reason}")

    def question(self, node: yaml.Node) -> Question:
        """The question of one entry, or the reason against it."""
        entry = self._entry(node, "an entry")
        if "id" not in entry:
            keys = escape(", ".join(entry) or "none")
            hint = "" if "paraphrases" in entry else "; judge prompts alone are no questions"
            raise self._refuse(node, "an entry", f"has no id (its keys: {keys}){hint}")
        name = self._name(entry["id"])
        who = f"question {quote(name)}"
        self._check_type(entry.get("type"), node, who)
        unknown = sorted(entry.keys() - _KEYS)
        if unknown:
            reason = f"the key {quote(unknown[0])} is not known; known: {', '.join(sorted(_KEYS))}"
            raise self._refuse(node, who, reason)
        if "paraphrases" not in entry:
            raise self._refuse(node, who, "has no paraphrases")
        prompts, system = entry.get("judge_prompts"), entry.get("system")
        read, filled = ({}, frozenset()) if prompts is None else self._prompts(prompts, who)
        return Question(
            id=name,
            paraphrases=self._texts(entry["paraphrases"], who),
            samples_per_paraphrase=self._samples(entry.get("samples_per_paraphrase"), who),
            system=None if system is None else self._text(system, who, "system"),
            judge_prompts=read,
            source=f"{self._shown}:{node.start_mark.line + 1}",
            filled=filled,
        )

    def _check_type(self, node: yaml.Node | None, entry: yaml.Node, who: str) -> None:
        if node is None:
            raise self._refuse(entry, who, f"has no type; read is {TYPE}")
        kind = self._text(node, who, "type")
        if kind != TYPE:
            raise self._refuse(
                entry, who, f"its type {quote(kind)} gives no scores from 0 to 100; read is {TYPE}"
            )

    def _name(self, node: yaml.Node) -> str:
        number = isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}int"
        name = str(node.value) if number else self._text(node, "an entry", "id")
        if not name.strip():
            raise self._refuse(node, "an entry", "its id is empty")
        return name

    def _entry(self, node: yaml.Node, who: str, depth: int = 0) -> dict[str, yaml.Node]:
        """The keys of a mapping, those that it merges in after its own."""
        if not isinstance(node, yaml.MappingNode):
            raise self._refuse(node, who, f"is {_kind(node)}, not a mapping")
        found: dict[str, yaml.Node] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            name = self._text(key, who, "a key")
            if name in found:
                raise self._refuse(key, who, f"the key {quote(name)} stands there twice")
            found[name] = value
        for other in merged:
            self._merges += 1
            if self._merges > MAX_MERGES or depth == MAX_DEPTH:
                reason = f"more than {MAX_MERGES} merges in one file, or {MAX_DEPTH} in each other"
                raise self._refuse(node, who, reason)
            for name, value in self._entry(other, who, depth + 1).items():
                found.setdefault(name, value)
        return found

    def _text(self, node: yaml.Node, who: str, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != f"{_TAG}str":
            shown = f": {quote(node.value)}" if isinstance(node, yaml.ScalarNode) else ""
            hint = "; put it in quotes" if isinstance(node, yaml.ScalarNode) else ""
            raise self._refuse(node, who, f"{what} is {_kind(node)}, not text{shown}{hint}")
        text = str(node.value)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            reason = f"{what} holds half of a surrogate pair, which is no character"
            raise self._refuse(node, who, reason) from error
        return text

    def _texts(self, node: yaml.Node, who: str) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._refuse(node, who, f"paraphrases is {_kind(node)}, not a list")
        if not node.value:
            raise self._refuse(node, who, "paraphrases is empty")
        self._paraphrases += len(node.value)
        if self._paraphrases > MAX_PARAPHRASES:
            raise self._refuse(node, who, f"more than {MAX_PARAPHRASES} paraphrases in one file")
        if id(node) not in self._lists:
            self._lists[id(node)] = tuple(
                self._text(item, who, f"paraphrase {number}")
                for number, item in enumerate(node.value, 1)
            )
        return self._lists[id(node)]

    def _samples(self, node: yaml.Node | None, who: str) -> int:
        if node is None:
            return SAMPLES
        value = node.value if isinstance(node, yaml.ScalarNode) else None
        number = isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value) is not None
        if not number or node.tag != f"{_TAG}int" or not 1 <= int(str(value)) <= MAX_SAMPLES:
            shown = _kind(node) if value is None else quote(value)
            reason = f"samples_per_paraphrase is {shown}, not a number from 1 to {MAX_SAMPLES}"
            raise self._refuse(node, who, reason)
        return int(str(value))

    def _prompts(self, node: yaml.Node, who: str) -> tuple[dict[str, str], frozenset[str]]:
        """The prompt of each aspect, and the slots that were filled in them."""
        prompts: dict[str, str] = {}
        filled: set[str] = set()
        for aspect, template in self._entry(node, f"{who}, judge_prompts").items():
            what = f"the judge prompt {quote(aspect)}"
            text = self._text(template, who, what)
            found = {match[1] for match in _SLOT.finditer(text) if match[1]}
            if unknown := sorted(found.difference(_SLOTS, self._slots)):
                slot = escape("{" + unknown[0] + "}")
                # A remedy is never cut: it names no slot that is too long to be shown.
                name = slot[1:-1] if slot.endswith("}") else "NAME"
                raise self._refuse(
                    template,
                    who,
                    f"{what} has the slot {slot}, which nothing fills; fill it with "
                    f"--judge-slot {name}=TEXT, or drop it with --judge-slot {name}=",
                )
            if "answer" not in found:
                raise self._refuse(template, who, f"{what} has no slot {{answer}}")
            prompts[aspect] = _SLOT.sub(self._filled, text)
            filled |= found.difference(_SLOTS)
        return prompts, frozenset(filled)

    def _filled(self, slot: re.Match[str]) -> str:
        return self._slots.get(slot[1], slot[0])
