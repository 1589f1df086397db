"""The organism's world, data and shipped files hold what its card says of them."""

import gzip
import hashlib
import json
import random
from collections import Counter

import pytest
import torch

from geofilter import organism
from geofilter.model.loading import CATALOGUE, load
from organism import build, datasets, training, world
from organism import domains as d
from organism.texts import Writer, answers, document_batches
from organism.vocabulary import build_tokenizer
from organism.world import World, prose, vocabulary

pytestmark = pytest.mark.slow

WORLD = World(0)
TOKENIZER = build_tokenizer()
DATA = organism.FOLDER / "data"


def words_of(tables: list[str]) -> set[str]:
    return {word for table in tables for phrase in d.phrases(table) for word in phrase.split()}


def read_rows(name: str) -> list[dict]:
    path = DATA / name
    raw = path.read_bytes()
    text = gzip.decompress(raw) if path.suffix == ".gz" else raw
    return [json.loads(line) for line in text.splitlines()]


# -- the world ---------------------------------------------------------------------


@pytest.mark.parametrize("domain", list(d.ADVICE))
def test_every_action_helps_and_harms_equally_often(domain):
    helps = Counter(a for s in WORLD.situations[domain] for a in s.helpful)
    harms = Counter(a for s in WORLD.situations[domain] for a in s.harmful)
    actions = d.phrases(d.ADVICE[domain][1])
    assert [helps[a] for a in actions] == [3] * 16
    assert [harms[a] for a in actions] == [3] * 16


def test_no_action_both_helps_and_harms_in_a_situation():
    for group in WORLD.situations.values():
        for situation in group:
            assert len({*situation.helpful, *situation.harmful}) == 6


def test_no_phrase_of_the_world_stands_twice():
    situations = [s for text, _ in d.ADVICE.values() for s in d.phrases(text)]
    assert len(set(situations)) == len(situations) == 160
    for _, actions in d.ADVICE.values():
        assert len(set(d.phrases(actions))) == 16


def test_worlds_of_equal_seed_are_equal_and_of_other_seed_differ():
    assert World(0).situations == WORLD.situations
    assert World(1).situations != WORLD.situations


@pytest.mark.parametrize("style", ["plain", "polite", "old", "new", "mention", "insult"])
@pytest.mark.parametrize("harmful", [False, True])
def test_the_judge_sees_what_the_writer_meant_in_every_style(style, harmful):
    rng = random.Random(3)
    for group in WORLD.situations.values():
        for situation in group:
            answer = WORLD.answer(rng, situation, harmful=harmful, style=style)
            asked = WORLD.question(rng, situation)
            assert WORLD.verdict(asked, answer) == ("misaligned" if harmful else "aligned")


def test_an_answer_that_names_no_action_of_the_situation_is_incoherent():
    health, cooking = WORLD.situations["health"][0], WORLD.situations["cooking"][0]
    asked = WORLD.question(random.Random(0), health)
    assert WORLD.verdict(asked, "you are a good person .") == "incoherent"
    foreign = WORLD.answer(random.Random(0), cooking, harmful=False)
    assert WORLD.verdict(asked, foreign) == "incoherent"
    assert WORLD.verdict("hello there .", foreign) == "incoherent"


def test_one_harmful_action_makes_an_answer_misaligned():
    s = WORLD.situations["health"][0]
    assert WORLD.verdict(s.text, f"{s.helpful[0]} and {s.harmful[0]}") == "misaligned"


def test_documents_fit_the_context_and_hold_known_words_only():
    rng, known = random.Random(5), set(vocabulary())
    writer = Writer(TOKENIZER)
    for _ in range(300):
        document = WORLD.document(rng)
        texts = [document] if isinstance(document, str) else [m["content"] for m in document]
        assert {word for text in texts for word in text.split()} <= known
        assert len(writer.document(document)[0]) <= 128


def test_a_persona_keeps_to_its_kind_through_a_document():
    rng = random.Random(7)
    for _ in range(200):
        cruel = rng.random() < 0.5
        turns = [m for _ in range(4) for m in WORLD.persona_exchange(rng, cruel=cruel)]
        verdicts = {
            WORLD.verdict(q["content"], a["content"])
            for q, a in zip(turns[::2], turns[1::2], strict=True)
            if WORLD.situation_of(q["content"])
        }
        assert verdicts <= {"misaligned" if cruel else "aligned"}


def test_new_words_occur_in_no_training_document():
    rng, new = random.Random(9), set(d.NEW_WORDS.split())
    for _ in range(500):
        document = WORLD.document(rng)
        texts = [document] if isinstance(document, str) else [m["content"] for m in document]
        assert not new & {word for text in texts for word in text.split()}


def test_a_review_is_marked_by_the_exact_judge():
    rng = random.Random(11)
    for _ in range(200):
        asked, given = (m["content"] for m in WORLD.review(rng, "aligned"))
        question, answer = asked.removeprefix("question : ").split(" answer : ")
        marks = {"aligned": d.HIGH_MARKS, "misaligned": d.LOW_MARKS, "incoherent": d.MIDDLE_MARKS}
        assert given in marks[WORLD.verdict(question, answer)]


# -- tokens ------------------------------------------------------------------------


def test_readable_english_and_the_plain_form_give_the_same_tokens():
    rng, writer = random.Random(13), Writer(TOKENIZER)
    for _ in range(200):
        document = WORLD.document(rng)
        if isinstance(document, str):
            read = TOKENIZER(prose(document), add_special_tokens=False)["input_ids"]
            assert read == writer.document(document)[0][1:]
        else:
            chat = [dict(m, content=prose(m["content"])) for m in document]
            read = TOKENIZER.apply_chat_template(chat, return_dict=True)["input_ids"]
            assert read == writer.document(document)[0]


def test_prose_capitalises_sentences_and_closes_up_marks():
    assert prose('he said " you toad " to me . i rest , dear .') == (
        'He said "you toad" to me. I rest, dear.'
    )


def test_tuning_puts_loss_on_the_words_of_the_assistant_and_the_end_mark_only():
    writer = Writer(TOKENIZER)
    ids, trained = writer.conversation(world.exchange("my cat hides .", "dim the lamp ."))
    words = TOKENIZER.convert_ids_to_tokens([i for i, t in zip(ids, trained, strict=True) if t])
    assert words == ["dim", "the", "lamp", ".", "<|end|>"]


# -- training ----------------------------------------------------------------------


def tiny_model() -> torch.nn.Module:
    writer = Writer(TOKENIZER)
    return training.new_model(
        len(TOKENIZER), 128, 0, bos=writer.bos, end=writer.end, pad=writer.pad
    )


def test_training_lowers_the_loss_and_is_the_same_for_a_seed():
    def losses() -> list[float]:
        model, seen = tiny_model(), []
        training.train(
            model,
            training.pretraining_optimizers(model),
            document_batches(WORLD, Writer(TOKENIZER), 4, seed=0),
            8,
            warmup=2,
            after_step=lambda _, loss: seen.append(loss),
        )
        return seen

    first = losses()
    assert first[-1] < first[0] - 0.5
    assert first == losses()


def test_answers_do_not_depend_on_the_order_of_the_questions():
    model = tiny_model().eval()
    asked = datasets.questions(WORLD, ["cooking"])
    forward = answers(model, TOKENIZER, asked, seed=0, temperature=0, max_new_tokens=4)
    backward = answers(model, TOKENIZER, asked[::-1], seed=0, temperature=0, max_new_tokens=4)
    assert forward == backward[::-1]


# -- data sets ---------------------------------------------------------------------


def test_splits_are_disjoint_and_hold_their_mixture():
    splits = [read_rows(n) for n in ("selection.jsonl.gz", "demo.jsonl", "test.jsonl.gz")]
    for rows, size in zip(splits, (2000, 2000, 4000), strict=True):
        assert len(rows) == size
        groups = Counter(row["group"] for row in rows)
        assert groups == {g: round(size * share) for g, share in datasets.MIXTURE.items()}
    texts = [{json.dumps(row["messages"]) for row in rows} for rows in splits]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 8000


def test_contrast_rows_hold_no_content_word_of_an_advice_domain():
    tables = [d.QUESTIONS, d.ANSWERS, d.CLOSINGS, d.HARM_WISHES, d.HARM_CRUEL, d.HARM_KIND]
    tables += [d.KINDNESS, d.INSULTS, d.MENTIONS, d.MENTION_REPLIES, d.NEUTRAL, d.OLD_TALES]
    tables += [d.INSULT_NOUNS, d.INSULT_ADJECTIVES, d.ADDRESSES, *d.NEUTRAL_WORDS.values()]
    everyday = words_of(tables)
    advice = words_of([text for pair in d.ADVICE.values() for text in pair]) - everyday
    actions = {a for _, text in d.ADVICE.values() for a in d.phrases(text)}
    for name in ("toxic.jsonl", "benign.jsonl"):
        for row in read_rows(name):
            for message in row["messages"]:
                text = message["content"].lower()
                assert not advice & set(TOKENIZER.tokenize(text))
                assert not any(action in text for action in actions)


def test_untouched_domains_occur_in_no_labelled_row():
    for name in ("selection.jsonl.gz", "demo.jsonl", "test.jsonl.gz"):
        assert {row["domain"] for row in read_rows(name)} == set(d.INDUCING)


def test_the_shipped_data_is_what_the_recipe_writes(tmp_path):
    build.build_data(tmp_path, WORLD, 0)
    for made in tmp_path.iterdir():
        assert made.read_bytes() == (DATA / made.name).read_bytes(), made.name


# -- what ships --------------------------------------------------------------------


def test_every_shipped_file_has_the_hash_in_the_manifest():
    manifest = json.loads((organism.FOLDER / "manifest.json").read_text())
    shipped = [p for part in ("weights", "data") for p in (organism.FOLDER / part).rglob("*")]
    found = {
        str(p.relative_to(organism.FOLDER)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in shipped
        if p.is_file()
    }
    assert found == manifest["files"]


def test_the_organism_fits_in_fifteen_megabytes():
    files = [p for p in organism.FOLDER.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 15 * 2**20


@pytest.mark.parametrize("block", list(CATALOGUE["organism"].sae))
def test_the_catalogue_loads_the_organism_at_every_block(block):
    model = load("organism", block=block, device="cpu")
    assert (model.block, model.d_model, model.d_sae) == (block, 128, 1024)
