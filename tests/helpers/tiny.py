"""Tiny tokenizers built in memory, for tests of any module: no files, no network."""

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = (
    "The quick brown fox jumps over the lazy dog and says hello to everybody there.",
    "What is a good soup for a cold evening? A soup of leeks and potatoes.",
    "system user assistant model tool think final analysis message channel start end",
    "Please answer briefly. I would walk home, have some tea and call a friend.",
    "café naïve 東京 привет hello hello there there",
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_MARKED = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>\n{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SPECIAL = ("<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>")


def bpe_tokenizer(
    chat_template: str | None = CHATML,
    *,
    sentences: Iterable[str] = SENTENCES,
    special: Iterable[str] = (),
    added: Iterable[str] = (),
    vocab_size: int = 600,
    adds_bos: bool = True,
    trim_offsets: bool = False,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text is tokenised without unknown tokens.

    `special` are further special tokens, `added` further added ones that are not
    special. `adds_bos`: <s> is put before a text, not before a rendered chat.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(dict.fromkeys([*SPECIAL, *special])),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(list(sentences), trainer)
    steps = [processors.ByteLevel(trim_offsets=trim_offsets)]
    if adds_bos:
        steps.append(_bos(tokenizer))
    tokenizer.post_processor = processors.Sequence(steps)
    # As GPT-2 and its kin have it: an unknown token of its own would never be used.
    return _wrapped(tokenizer, chat_template, added, unk_token=None)


def word_tokenizer(
    chat_template: str | None = CHATML, *, sentences: Iterable[str] = SENTENCES
) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: words are split at blanks, unseen ones are <unk>."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(list(sentences), trainer)
    tokenizer.post_processor = _bos(tokenizer)
    return _wrapped(tokenizer, chat_template, (), unk_token="<unk>")


def _bos(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )


def _wrapped(
    tokenizer: Tokenizer,
    chat_template: str | None,
    added: Iterable[str],
    *,
    unk_token: str | None,
) -> PreTrainedTokenizerFast:
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token=unk_token,
    )
    wrapped.add_tokens(list(added))
    wrapped.chat_template = chat_template
    return wrapped


def llama(vocab_size: int, *, blocks: int = 2, d_model: int = 16) -> LlamaForCausalLM:
    """A randomly initialised Llama with `blocks` blocks; the same weights at every call."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    return LlamaForCausalLM(config).eval()
