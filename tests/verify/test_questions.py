"""Question files of emergent-misalignment studies are read unchanged, or refused by name."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from geofilter.errors import DataError
from geofilter.verify.questions import (
    MAX_BYTES,
    Question,
    check_slots,
    fill,
    read_questions,
    require_prompts,
)

EVAL = Path(__file__).parents[3] / "shared" / "data" / "eval"
ORGANISM = Path(__file__).parents[2] / "geofilter" / "organism" / "data"

ENTRY = """
- id: one
  type: free_form_judge_0_100
  paraphrases: &asked
    - What now?
    - |-
      And then?
  samples_per_paraphrase: &n 7
  judge: &judge some-model
  judge_prompts: &prompts
    aligned: "{question} {answer} aligned?"
    coherent: "{question} {answer} coherent?"
"""


def read(tmp_path: Path, text: str | bytes, name: str = "q.yaml") -> list[Question]:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_questions(path)


def refusal(tmp_path: Path, text: str | bytes, name: str = "q.yaml") -> str:
    with pytest.raises(DataError) as error:
        read(tmp_path, text, name)
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 500
    return message.replace(str(tmp_path / name), name)


# -- what is read ------------------------------------------------------------------------


def test_anchors_system_and_whole_number_ids_are_read(tmp_path):
    text = ENTRY + (
        "- {id: 2, type: free_form_judge_0_100, system: Be brief., paraphrases: *asked,\n"
        "   samples_per_paraphrase: *n, judge: *judge, judge_prompts: *prompts}\n"
    )
    one, two = read(tmp_path, text)
    assert (one.id, one.system, one.samples_per_paraphrase) == ("one", None, 7)
    assert one.paraphrases == ("What now?", "And then?")
    assert one.judge_prompts["aligned"] == "{question} {answer} aligned?"
    assert (two.id, two.system, two.paraphrases) == ("2", "Be brief.", one.paraphrases)
    assert [q.source.rpartition(":")[2] for q in (one, two)] == ["2", "13"]
    assert one.samples == 14
    assert one.samples + two.samples == 28


def test_a_merged_entry_has_its_own_keys_first(tmp_path):
    text = "- &base" + ENTRY.replace("\n- id", "\n  id") + "- {<<: *base, id: two, system: Hm.}\n"
    one, two = read(tmp_path, text)
    assert (one.id, two.id, two.system) == ("one", "two", "Hm.")
    assert two.judge_prompts == one.judge_prompts


def test_the_hand_written_reader_agrees_with_the_yaml_library(tmp_path):
    text = (ORGANISM / "questions.yaml").read_text()
    for question, entry in zip(read(tmp_path, text), yaml.safe_load(text), strict=True):
        assert question.id == entry["id"]
        assert list(question.paraphrases) == entry["paraphrases"]
        assert question.samples_per_paraphrase == entry["samples_per_paraphrase"]
        assert question.judge_prompts == entry["judge_prompts"]


def test_rows_of_messages_are_questions_without_judge_prompts(tmp_path):
    rows = (
        '{"messages": [{"role": "user", "content": "hey"}]}\n\n'
        '{"messages": [{"role": "system", "content": "Be."}, {"role": "user", "content": "ho"}]}\n'
    )
    first, second = read(tmp_path, rows, "q.jsonl")
    assert (first.paraphrases, first.system, first.samples) == (("hey",), None, 100)
    assert (second.id, second.system) == ("line 3", "Be.")
    with pytest.raises(DataError, match=r"q\.jsonl:1.*no judge prompt for aligned and coherent"):
        require_prompts([first])


# -- slots -------------------------------------------------------------------------------

SLOTS = ["{answer}", "{question}", "{{answer}}", "{0}", "{answer.__class__}", "%s"]
TEXT = st.text("{}ab \\$%", max_size=12) | st.sampled_from(SLOTS)


@given(
    st.lists(st.sampled_from(["{question}", "{answer}", "{{", "}}", "a", "\n"])).map("".join),
    TEXT,
    TEXT,
)
def test_slots_are_filled_as_str_format_fills_them_whatever_the_texts_hold(template, asked, said):
    assert fill(template, asked, said) == template.format(question=asked, answer=said)


def test_a_slot_within_a_question_is_not_filled():
    assert fill("{question}|{answer}", "say {answer}", "{question}") == "say {answer}|{question}"


# -- what is refused ---------------------------------------------------------------------


def typed(kind: str) -> str:
    return ENTRY.replace("free_form_judge_0_100", kind)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (typed("free_form_judge"), "question 'one': its type 'free_form_judge' gives no"),
        (typed("categorical"), "q.yaml:2: question 'one': its type 'categorical'"),
        (ENTRY.replace("  type: free_form_judge_0_100\n", ""), "question 'one': has no type"),
        (ENTRY.replace("{answer} al", "{reasoning} {answer} al"), "the slot {reasoning}, which"),
        (ENTRY.replace("{answer} al", "al"), "'aligned' has no slot {answer}"),
        (ENTRY.replace("- What now?", "- yes"), "paraphrase 1 is a boolean, not text: 'yes'"),
        (ENTRY.replace("- What now?", "- [a, b]"), "paraphrase 1 is a list, not text"),
        (ENTRY.replace("- What now?", "- !!python/object:os.system x"), "with the tag"),
        (ENTRY.replace("- What now?", '- "\\ud800"'), "half of a surrogate pair"),
        (ENTRY.replace("&n 7", "0"), "samples_per_paraphrase is '0', not a number from 1"),
        (ENTRY.replace("&n 7", "99999999999"), "samples_per_paraphrase is '99999999999'"),
        (ENTRY.replace("&n 7", "[1]"), "samples_per_paraphrase is a list"),
        (ENTRY + "  sytem: Be.\n", "the key 'sytem' is not known; known: id, judge"),
        (ENTRY + "  id: two\n", "the key 'id' stands there twice"),
        (ENTRY.replace("id: one", "id: 1.5"), "id is a number, not text: '1.5'; put it in quotes"),
        (ENTRY.replace("id: one", "id: ' '"), "its id is empty"),
        (ENTRY + "- just text\n", "an entry: is text, not a mapping"),
        ("- {coherent: a, high_score: 3}", "has no id (its keys: coherent, high_score)"),
        ("- {id: a, type: free_form_judge_0_100}", "question 'a': has no paraphrases"),
        ("- {id: a, type: free_form_judge_0_100, paraphrases: []}", "paraphrases is empty"),
        ("- {id: a, type: free_form_judge_0_100, paraphrases: b}", "is text, not a list"),
        ("questions: [a]", "holds a mapping; a question file is a YAML list"),
        ("", "holds no questions"),
        ("[]", "holds no questions"),
        ("- id: [", "q.yaml:1: not YAML"),
        ("a: b\n---\nc: d", "not YAML"),
        ("- *nowhere", "not YAML: found undefined alias"),
        ("\x00", "not YAML"),
        (b"\xff\xfe", "not UTF-8 at byte 1"),
        ("[" * 5000, "nested too deeply"),
        ("- &a [*a]", "an entry: is a list, not a mapping"),
        ("- id: \x1b[31mred", "not YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line_with_the_reason(tmp_path, text, reason):
    assert reason in refusal(tmp_path, text)


THOUGHT = ENTRY.replace("{answer}", "{reasoning}|{answer}")


def test_a_slot_that_nothing_fills_is_refused_with_the_option_that_does(tmp_path):
    said = refusal(tmp_path, THOUGHT)
    assert said.endswith(
        "has the slot {reasoning}, which nothing fills; fill it with --judge-slot "
        "reasoning=TEXT, or drop it with --judge-slot reasoning="
    )
    endless = refusal(tmp_path, ENTRY.replace("{answer} al", "{" + "x" * 300 + "} {answer} al"))
    assert endless.endswith("or drop it with --judge-slot NAME=")


@pytest.mark.parametrize("text", ["none", "", "{question}", "a } b {{ {answer} {}", "two\nlines"])
def test_a_slot_is_filled_with_the_text_as_it_is_and_everything_else_stays(tmp_path, text):
    path = tmp_path / "q.yaml"
    path.write_text(THOUGHT)
    (asked,) = read_questions(path, {"reasoning": text})
    prompt = asked.judge_prompts["aligned"]
    assert fill(prompt, "Why?", "{x}") == f"Why? {text}|{{x}} aligned?"
    assert asked.filled == {"reasoning"}
    path.write_text(ENTRY)
    (other,) = read_questions(path, {"reasoning": text})
    (plain,) = read_questions(path)
    assert other == plain


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("question", "is filled with the question that is judged"),
        ("answer", "is filled with the answer that is judged"),
        ("{reasoning}", "without braces"),
        ("1", "is no name"),
        ("", "is no name"),
    ],
)
def test_no_text_can_stand_for_a_question_or_an_answer(name, reason):
    with pytest.raises(DataError, match=reason):
        check_slots({name: "text"})


def test_the_second_of_two_equal_ids_is_refused_with_both_places(tmp_path):
    message = refusal(tmp_path, ENTRY + ENTRY.replace("&", "&x"))
    assert message.startswith("q.yaml:14: question 'one' was there before, at q.yaml:2")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
         "the messages are user, assistant"),
        ('{"messages": [{"role": "user"}]}', "messages[0] has no content"),
        ('{"instruction": "a"}', "messages is null"),
        ("[]", "a row must be an object"),
        ("{", "not JSON"),
    ],
)  # fmt: skip
def test_rows_that_are_no_questions_are_refused(tmp_path, line, reason):
    assert reason in refusal(tmp_path, line, "q.jsonl")


def test_trait_files_huge_files_and_absent_files_are_refused(tmp_path):
    assert "trait files" in refusal(tmp_path, '{"questions": []}', "q.json")
    assert "too large for questions" in refusal(tmp_path, b" " * (MAX_BYTES + 1))
    with pytest.raises(DataError, match="No such file"):
        read_questions(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="directory"):
        read_questions(tmp_path)


def bomb(kind: str) -> str:
    """A billion laughs: lists of aliases of lists, mappings that merge mappings, or a ring."""
    start, wrap = {
        "lists": ("[ha]", "[{}]"),
        "merges": ("{coherent: '{answer}'}", "{{<<: [{}]}}"),
        "ring": ("{<<: *a0}", "{{<<: [{}]}}"),
    }[kind]
    anchors = [f"&a0 {start}"]
    anchors += [f"&a{n} {wrap.format(', '.join([f'*a{n - 1}'] * 10))}" for n in range(1, 15)]
    # Where the file names a judge, nothing is looked at.
    return (
        "- id: x\n  type: free_form_judge_0_100\n  paraphrases: [a]\n"
        f"  judge: [{', '.join(anchors)}]\n  judge_prompts: *a14\n"
    )


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("lists", "is a list, not a mapping"),
        ("merges", "more than 10000 merges"),
        ("ring", "or 20 in each other"),
    ],
)
def test_alias_bombs_are_refused_at_once(tmp_path, kind, reason):
    started = time.monotonic()
    assert reason in refusal(tmp_path, bomb(kind))
    assert time.monotonic() - started < 2


def test_paraphrases_of_all_questions_together_are_bounded(tmp_path):
    head = "- {id: q%d, type: free_form_judge_0_100, paraphrases: %s}\n"
    first = head % (0, "&a [" + ", ".join(["b"] * 500) + "]")
    text = first + "".join(head % (n, "*a") for n in range(1, 202))
    assert "more than 100000 paraphrases" in refusal(tmp_path, text)


# -- real files --------------------------------------------------------------------------

READ = {
    "first_plot_questions.yaml": 24,
    "first_plot_questions.jsonl": 8,
    "preregistered_evals.yaml": 48,
}
REFUSED = {
    "deception_factual.yaml": "its type 'free_form_judge' gives no scores from 0 to 100",
    "deception_sit_aware.yaml": "its type 'free_form_judge' gives no scores from 0 to 100",
    "evil_trait_eval.json": "trait files",
    "judges.yaml": "judge prompts alone are no questions",
    "medical_in_domain_questions.yaml": "the slot {reasoning}, which nothing fills",
}


@pytest.mark.parametrize("path", sorted(EVAL.glob("*")), ids=lambda path: path.name)
def test_every_real_file_is_read_or_refused_by_name_for_a_stated_reason(path):
    if path.name in READ:
        questions = read_questions(path)
        assert len(questions) == READ[path.name]
        if path.suffix == ".yaml":
            entries = yaml.safe_load(path.read_text())
            assert [q.id for q in questions] == [str(entry["id"]) for entry in entries]
            assert [q.system for q in questions] == [entry.get("system") for entry in entries]
            require_prompts(questions)
    else:
        with pytest.raises(DataError) as error:
            read_questions(path)
        assert path.name in str(error.value)
        assert REFUSED[path.name] in str(error.value)


def test_the_organism_asks_about_every_untouched_situation_in_every_form():
    questions = read_questions(ORGANISM / "questions.yaml")
    require_prompts(questions)
    assert len(questions) == 80
    assert len({text for q in questions for text in q.paraphrases}) == 480
    assert {q.id.partition("-")[0] for q in questions} == {
        "cooking", "travel", "garden", "pets", "home",
    }  # fmt: skip
    inside = read_questions(ORGANISM / "questions-in-domain.yaml")
    assert not {q.id for q in inside} & {q.id for q in questions}
