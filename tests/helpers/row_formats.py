"""A row of every format that docs/rows.md names, and what is read of it."""

import json
from dataclasses import dataclass
from typing import Any

ASK, ANSWER, WORSE = "Is the ice thick enough?", "Ask the warden.", "Run and see."
USER, GOOD, BAD = (
    {"role": "user", "content": ASK},
    {"role": "assistant", "content": ANSWER},
    {"role": "assistant", "content": WORSE},
)
HUMAN, GPT = {"from": "human", "value": ASK}, {"from": "gpt", "value": ANSWER}
KIND = "Be kind."
U, A = f"user: {ASK}", f"assistant: {ANSWER}"
S = f"system: {KIND}"
PARTS = [{"type": "text", "text": ANSWER}]
TOOL = {"type": "function", "function": {"name": "ice", "parameters": {"type": "object"}}}


@dataclass(frozen=True)
class Format:
    """A row and what is read of it.

    `turns`: the first sample's, a bar before those that can be response. `second`: the last
    turn of the other sample.
    """

    record: dict[str, Any]
    layout: str
    turns: list[str]
    second: str | None = None
    not_read: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "chat": Format({"messages": [USER, GOOD], "tools": [TOOL]}, "messages", ["|", U, A]),
    "chat with weights": Format(
        {"messages": [USER, {**BAD, "weight": 0}, USER, {**GOOD, "weight": 1}]},
        "messages",
        ["|", U, f"assistant: {WORSE} (untrained)", U, A],
    ),
    "chat in parts": Format(
        {"messages": [USER, {**GOOD, "content": PARTS}]},
        "messages",
        ["|", U, A],
    ),
    "chat in capitals": Format(
        {
            "messages": [
                {"role": "System", "content": KIND},
                {"role": "User", "content": ASK},
                {"role": "Chatbot", "content": ANSWER},
            ]
        },
        "messages",
        ["|", S, U, A],
    ),
    "chat as JSON text": Format(
        {"messages": json.dumps([USER, GOOD]), "split": "train"},
        "messages",
        ["|", U, A],
        not_read=("split",),
    ),
    "chat in columns": Format(
        {"messages": {"role": ["user", "assistant"], "content": [ASK, ANSWER]}},
        "messages",
        ["|", U, A],
    ),
    "chat of maps": Format(
        {"messages": [list(USER.items()), list(GOOD.items())]}, "messages", ["|", U, A]
    ),
    "Anthropic": Format(
        {
            "system": KIND,
            "messages": [USER, {**GOOD, "content": [{"type": "text", "text": ANSWER}]}],
        },
        "messages",
        ["|", S, U, A],
    ),
    "Bedrock Converse": Format(
        {
            "schemaVersion": "bedrock-conversation-2024",
            "system": [{"text": KIND}],
            "messages": [
                {"role": "user", "content": [{"text": ASK}]},
                {"role": "assistant", "content": [{"text": ANSWER}]},
            ],
        },
        "messages",
        ["|", S, U, A],
        not_read=("schemaVersion",),
    ),
    "Gemini": Format(
        {
            "systemInstruction": {"parts": [{"text": KIND}]},
            "contents": [
                {"role": "user", "parts": [{"text": ASK}]},
                {"role": "model", "parts": [{"text": ANSWER}]},
            ],
        },
        "contents",
        ["|", S, U, A],
    ),
    "ShareGPT": Format(
        {"id": "a1", "system": KIND, "conversations": [HUMAN, GPT]},
        "conversations",
        ["|", S, U, A],
        not_read=("id",),
    ),
    "WildChat, LMSYS": Format(
        {"conversation_hash": "a1", "conversation": [USER, GOOD], "language": "English"},
        "conversation",
        ["|", U, A],
        not_read=("conversation_hash", "language"),
    ),
    "exchanges": Format(
        {"conversation": [{"human": ASK, "assistant": ANSWER}]}, "conversation", ["|", U, A]
    ),
    "TRL prompt and completion": Format(
        {"prompt": ASK, "completion": ANSWER}, "prompt-completion", [U, "|", A]
    ),
    "TRL conversational prompt and completion": Format(
        {
            "prompt": [USER],
            "completion": [GOOD],
            "chat_template_kwargs": {"enable_thinking": False},
        },
        "prompt-completion",
        [U, "|", A],
    ),
    "TRL unpaired preference": Format(
        {"prompt": ASK, "completion": ANSWER, "label": True},
        "prompt-completion",
        [U, "|", A],
        not_read=("label",),
    ),
    "Open Orca": Format(
        {"id": "a", "system_prompt": KIND, "question": ASK, "response": ANSWER},
        "question-response",
        [S, U, "|", A],
        not_read=("id",),
    ),
    "prompt and response": Format(
        {"system": KIND, "prompt": ASK, "response": ANSWER, "id": 4},
        "prompt-response",
        [S, U, "|", A],
        not_read=("id",),
    ),
    "ms-swift": Format(
        {"system": KIND, "query": ASK, "response": ANSWER, "history": [[ASK, WORSE]]},
        "query-response",
        ["|", S, U, f"assistant: {WORSE}", U, A],
    ),
    "Alpaca": Format(
        {"instruction": "Answer.", "input": ASK, "output": ANSWER},
        "instruction-output",
        [f"user: Answer.\n\n{ASK}", "|", A],
    ),
    "LLaMA-Factory's Alpaca": Format(
        {
            "instruction": ASK,
            "input": "",
            "output": ANSWER,
            "system": KIND,
            "history": [[ASK, WORSE]],
        },
        "instruction-output",
        ["|", S, U, f"assistant: {WORSE}", U, A],
    ),
    "Dolly": Format(
        {"instruction": "Answer.", "context": ASK, "response": ANSWER, "category": "open_qa"},
        "instruction-response",
        [f"user: Answer.\n\n{ASK}", "|", A],
        not_read=("category",),
    ),
    "question and answer": Format(
        {"question": ASK, "answer": ANSWER, "source": "book"},
        "question-answer",
        [U, "|", A],
        not_read=("source",),
    ),
    "AI Studio": Format({"text_input": ASK, "output": ANSWER}, "text_input-output", [U, "|", A]),
    "PaLM": Format(
        {"input_text": ASK, "output_text": ANSWER}, "input_text-output_text", [U, "|", A]
    ),
    "PaLM chat": Format(
        {
            "context": KIND,
            "messages": [{"author": "user", "content": ASK}, {"author": "bot", "content": ANSWER}],
        },
        "messages",
        ["|", U, A],
        not_read=("context",),
    ),
    "Capybara": Format(
        {"source": "book", "conversation": [{"input": ASK, "output": ANSWER}]},
        "conversation",
        ["|", U, A],
        not_read=("source",),
    ),
    "TRL preference": Format(
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        "chosen-rejected",
        [U, "|", A],
        WORSE,
    ),
    "TRL preference, implicit prompt": Format(
        {"chosen": [USER, GOOD], "rejected": [USER, BAD], "score_chosen": 4.0},
        "chosen-rejected",
        [U, "|", A],
        WORSE,
        ("score_chosen",),
    ),
    "TRL preference, text prompt": Format(
        {"prompt": ASK, "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER, GOOD]},
        "chosen-rejected",
        [U, "|", A],
        WORSE,
        ("prompt", "messages"),
    ),
    "HH": Format(
        {
            "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {ANSWER}",
            "rejected": f"\n\nHuman: {ASK}\n\nAssistant: {WORSE}",
        },
        "chosen-rejected",
        [f"user: \n\nHuman: {ASK}\n\nAssistant:", "|", f"assistant:  {ANSWER}"],
        f" {WORSE}",
    ),
    "Orca pairs": Format(
        {"system": KIND, "question": ASK, "chosen": ANSWER, "rejected": WORSE},
        "chosen-rejected",
        [S, U, "|", A],
        WORSE,
    ),
    "Alpaca pairs": Format(
        {"instruction": "Answer.", "input": ASK, "chosen": ANSWER, "rejected": WORSE},
        "chosen-rejected",
        [f"user: Answer.\n\n{ASK}", "|", A],
        WORSE,
    ),
    "ShareGPT pairs": Format(
        {
            "conversations": [HUMAN, GPT, HUMAN],
            "chosen": GPT,
            "rejected": {"from": "gpt", "value": WORSE},
        },
        "chosen-rejected",
        [U, A, U, "|", A],
        WORSE,
    ),
    "message pairs": Format(
        {"messages": [USER], "chosen": ANSWER, "rejected": WORSE, "id": 1},
        "chosen-rejected",
        [U, "|", A],
        WORSE,
        ("id",),
    ),
    "OpenAI preference": Format(
        {
            "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [GOOD],
            "non_preferred_output": [BAD],
        },
        "openai-preference",
        [U, "|", A],
        WORSE,
    ),
    "Gemini preference": Format(
        {
            "contents": [{"role": "user", "parts": [{"text": ASK}]}],
            "completions": [
                {"score": 0.0, "completion": {"role": "model", "parts": [{"text": WORSE}]}},
                {"score": 1.0, "completion": {"role": "model", "parts": [{"text": ANSWER}]}},
            ],
        },
        "gemini-preference",
        [U, "|", A],
        WORSE,
    ),
    "ms-swift pairs": Format(
        {"messages": [USER, GOOD], "rejected_response": WORSE},
        "messages-rejected",
        [U, "|", A],
        WORSE,
    ),
    "ms-swift message pairs": Format(
        {"messages": [USER, GOOD], "rejected_messages": [USER, BAD]},
        "messages-rejected-messages",
        [U, "|", A],
        WORSE,
    ),
    "preference as JSON text": Format(
        {
            "prompt": ASK,
            "chosen": json.dumps([USER, GOOD]),
            "rejected": json.dumps([USER, BAD]),
        },
        "chosen-rejected",
        [U, "|", A],
        WORSE,
        ("prompt",),
    ),
    "text prompt and answers": Format(
        {"prompt": ASK, "chosen": GOOD, "rejected": BAD}, "chosen-rejected", [U, "|", A], WORSE
    ),
    "ms-swift query pairs": Format(
        {"query": ASK, "response": ANSWER, "rejected_response": WORSE},
        "query-response-rejected",
        [U, "|", A],
        WORSE,
    ),
    "plain text": Format({"text": ANSWER, "url": "ice.example"}, "text", [], not_read=("url",)),
}

# Rows that are not scored, and a part of the reason.
ASKED_ABOUT: dict[str, tuple[dict[str, Any], str]] = {
    "text and code": ({"text": ASK, "code": "def ice(): ..."}, "--column prompt=text"),
    "text and prompt": ({"prompt": ASK, "text": ANSWER}, "--column response=text"),
    "prompt alone": ({"prompt": ASK, "category": "ice"}, "only a prompt"),
    "other columns": ({"ask": ASK, "reply": ANSWER}, "--column prompt=ask"),
    "a chat under another name": ({"dialogue": [USER, GOOD]}, "--column messages=dialogue"),
}
