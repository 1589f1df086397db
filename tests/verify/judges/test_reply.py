"""How a server's replies are read is found once, on answers that are always the same, and kept."""

from typing import Any

import pytest

from geofilter.errors import ModelError
from helpers.asking import QUESTION, asked, judge
from helpers.loopback_judge import Act, Request, Server, completion

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("how", ["left out", "refused", "empty"])
def test_without_probabilities_the_first_integer_counts(how):
    def act(request: Request) -> Act:
        if how == "refused" and "logprobs" in request:
            return 400
        reply: Any = completion("I give 85 of 100")
        if how == "empty":
            reply["choices"][0]["logprobs"] = {"content": []}
        return reply

    server = Server(act)
    with server.running() as url:
        (found,) = judge(url)(asked("x"))
    assert (found.aligned, found.coherent) == (85, 85)
    assert found.replies["aligned"] == "I give 85 of 100"
    assert "logprobs" not in server.requests[-1]
    assert server.requests[-1]["max_tokens"] == 8


def test_a_judge_that_writes_numbers_in_several_tokens_is_not_scored_by_the_first():
    # 85 as "8", "5": the first token alone would say 8.
    with Server(lambda _: completion("85", {"8": 0.9, "9": 0.1}, {"5": 1.0})).running() as url:
        (found,) = judge(url)(asked("x"))
    assert found.aligned == 85


def test_a_judge_that_only_ever_says_one_digit_is_read_by_its_text():
    with Server(lambda _: completion("5", {"5": 0.9, "1": 0.1})).running() as url:
        single = judge(url)
        (found,) = single(asked("x"))
    assert (single.rule, found.aligned) == ("first integer", 5)


def test_the_rule_is_found_once_and_holds():
    server = Server(lambda _: completion("70", {"70": 1.0}))
    with server.running() as url:
        one = judge(url)
        one(asked("a", "b"))
        first = len(server.requests)
        server.act = lambda _: completion("70")  # no probabilities any more
        (found,) = one(asked("c"))
    assert first == 1 + 4  # and one to find the rule
    assert found.aligned is None
    assert found.reasons["aligned"] == "the judge sent no probabilities this time, 3 times"


def coder(request: Request) -> Act:
    """Says CODE to code, and wavers otherwise: its likeliest number is not its mean."""
    if "def " in request["messages"][0]["content"]:
        return completion("CODE", {"CODE": 0.98, "RE": 0.02})
    return completion("25", {"25": 0.6, "85": 0.4})


def test_the_rule_and_the_scores_do_not_depend_on_which_answers_come_first():
    code, prose = asked(*["def f(): pass"] * 4), asked(*["Be kind."] * 4)
    with Server(coder).running() as url:
        first, second = judge(url), judge(url)
        assert first(code + prose)[4:] == second(prose + code)[:4]
        assert first.rule == second.rule == "probabilities"
        third = judge(url)
        third.check([QUESTION])
        assert third.rule == "probabilities"
        assert third(prose)[0].aligned == pytest.approx(49)


def test_a_judge_that_is_told_the_rule_asks_nothing_to_find_it():
    server = Server(coder)
    with server.running() as url:
        one = judge(url, rule="first integer")
        one.check([QUESTION])
        assert server.requests == []
        assert one(asked("Be kind."))[0].aligned == 25
    assert len(server.requests) == 2


LISTED = {"object": "list", "data": [{"id": "other"}, {"id": "m", "root": "org/some-judge"}]}


@pytest.mark.parametrize(
    ("models", "served"),
    [
        (LISTED, "org/some-judge"),
        ({"data": [{"id": "m"}]}, "m"),
        ({"data": [{"id": "other"}]}, None),
        (404, None),
        (501, None),
        (500, None),
        (b"<html>", None),
        ({"data": 3}, None),
    ],
)
def test_a_judge_describes_what_is_served_and_how_it_is_read(models, served):
    with Server(coder, models).running() as url:
        one = judge(url)
        one.check([QUESTION])
    assert one.describe() == {
        "judge": "endpoint",
        "url": url,
        "model": "m",
        "served": served,
        "rule": "probabilities",
    }


def test_a_judge_that_gives_no_reply_to_tell_by_is_an_error_before_anything_costly():
    told = "answered 500, 2 times; run again when it replies"
    with Server(lambda _: 500).running() as url, pytest.raises(ModelError, match=told):
        judge(url, tries=2).check([QUESTION])
