"""Models that write responses: what a server sends is data, and what it fails to send no reply."""

from typing import Any

import pytest

from geofilter.data.samples import Turn
from geofilter.errors import ModelError
from geofilter.model.answers import opening_ids
from geofilter.model.causal import CausalModel
from geofilter.runs import replies
from geofilter.runs.replies import LocalWriter, ServedWriter, writer_named
from geofilter.selection.replacing import Ask, Reply
from geofilter.support import endpoint
from helpers.loopback_judge import Act, Server, completion
from helpers.tiny_models import CONTEXT, tiny_network, tiny_tokenizer

ASKS = [Ask(row, (Turn("developer", "Be brief."), Turn("user", f"why {row}"))) for row in range(3)]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def served(act: Act, asks: list[Ask] = ASKS) -> dict[int, Reply]:
    with Server(act if callable(act) else lambda _: act).running() as url:
        writer = ServedWriter(url, "m", tries=2, pause=0.001)
        return dict(writer(asks, 0, {one.row for one in asks}))


def ended(text: str | None, reason: str, **message: Any) -> Act:
    choice = {"message": {"content": text, **message}, "finish_reason": reason}
    return {"choices": [choice]}


def test_the_turns_of_the_row_are_asked_and_nothing_else() -> None:
    server = Server(lambda request: completion(request["messages"][-1]["content"].upper()))
    with server.running() as url:
        writer = ServedWriter(url, "m", max_new_tokens=9)
        assert dict(writer(ASKS, 0, {0, 2})) == {0: Reply("WHY 0"), 2: Reply("WHY 2")}
    assert {tuple(sorted(one)) for one in server.requests} == {
        ("max_tokens", "messages", "model", "temperature")
    }
    assert server.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {(one["temperature"], one["max_tokens"]) for one in server.requests} == {(1.0, 9)}


REPLIES: dict[str, tuple[Act, Reply]] = {
    "cut off": (ended("so", "length"), Reply("so", "is cut off")),
    "filtered": (ended("so", "content_filter"), Reply(None, "is a refusal")),
    "refused": (ended(None, "stop", refusal="no"), Reply(None, "is a refusal")),
    "a call": (ended(None, "tool_calls", tool_calls=[{}]), Reply(None, "calls a tool")),
    "no text": (ended(None, "stop"), Reply(None, "is empty")),
    "HTML": (b"<html>\x00\xff", Reply(None, "sent what is no completion", lasting=False)),
    "deep": (b"[" * 100_000, Reply(None, "sent what is no completion", lasting=False)),
    "a list": ({"choices": [[]]}, Reply(None, "sent what is no completion", lasting=False)),
    "500": (500, Reply(None, "the model answered 500", lasting=False)),
    "400": (400, Reply(None, "the model answered 400", lasting=True)),
    "broken off": ("drop", Reply(None, "the model broke off", lasting=False)),
}


@pytest.mark.parametrize("name", REPLIES)
def test_what_is_no_response_says_why(name: str) -> None:
    act, expected = REPLIES[name]
    found = served(act)
    assert {(one.text, one.lasting) for one in found.values()} == {
        (expected.text, expected.lasting)
    }
    assert expected.fault in found[0].fault


def test_no_more_of_a_reply_is_read_than_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "BODY_LIMIT", 2**20)
    assert "sent more than 1 MiB" in served(b"[" + b" " * 2**21 + b"]")[0].fault


def test_a_server_that_replies_to_nothing_stops_the_run_and_one_bad_row_does_not() -> None:
    asks = [Ask(row, (Turn("user", f"why {row}"),)) for row in range(8)]
    with pytest.raises(ModelError, match=r"replies to nothing .* answered 500.* to go on"):
        served(500, asks)
    found = served(lambda request: 500 if "why 3" in str(request) else completion("so"), asks)
    assert [row for row, one in found.items() if one.text is None] == [3]


def test_an_address_needs_a_model_and_a_model_here_a_chat_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ModelError, match=r"names no model.* --replace-with http://HOST/v1#MODEL"):
        writer_named("http://127.0.0.1:1/v1")
    monkeypatch.setattr(replies, "open_checkpoint", lambda _: None)
    monkeypatch.setattr(replies.loading, "read_texts", lambda *_: (None, tiny_tokenizer()))
    with pytest.raises(ModelError, match=r"no chat template.* name a chat model"):
        writer_named("base")


def test_a_model_here_draws_for_a_part_of_a_batch_what_it_draws_for_the_whole() -> None:
    model = CausalModel(tiny_network().eval(), tiny_tokenizer())
    lengths = (2, 5, 2, CONTEXT, 5, CONTEXT - 7)
    asks = [
        Ask(row, (Turn("user", " ".join(f"w{row + n}" for n in range(length))),))
        for row, length in enumerate(lengths)
    ]
    writer = LocalWriter("tiny", max_new_tokens=8, load=lambda: model)
    whole = dict(writer(asks, 0, set(range(6))))
    asked = len(opening_ids(model.tokenizer, asks[3].turns))
    full = f"a question of {asked} tokens leaves no room for an answer in a context of {CONTEXT}"
    assert whole[3] == Reply(None, f"cannot be asked for: {full}")
    assert all(one.text for row, one in whole.items() if row != 3)
    assert {one.fault for row, one in whole.items() if row != 3} <= {None, "is cut off"}
    assert dict(writer(asks, 0, {1, 2})) == {row: whole[row] for row in (1, 2)}
    assert dict(writer(asks, 1, {0, 1, 2, 4, 5})) != {k: v for k, v in whole.items() if k != 3}
