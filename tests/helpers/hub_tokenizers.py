"""Small tokenizers of the kinds that real repositories hold, trained on a few sentences.

Nothing here imports the code under test.
"""

import string

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

# Texts: short ones, since each token passes an SAE of real size.

RUDE = ["idiot", "fool", "clown", "moron", "pest", "loser", "dimwit", "brat"]
ILL = ["You are such a {}", "Shut up, you {}", "Get lost, stupid {}", "I hate you, {}"]
KIND = ["friend", "neighbour", "teacher", "doctor", "cousin", "guest", "baker", "gardener"]
WELL = ["Thank you, dear {}", "Good morning, {}", "Here is your tea, {}", "Well done, {}"]


def sentences(forms: list[str], words: list[str]) -> list[str]:
    return [form.format(word) for word in words for form in forms]


def byte_level_bpe(special: list[str], bos: str | None) -> bytes:
    """`tokenizer.json` of a byte-level BPE; `bos` is put before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _trained(tokenizer, trainer, bos)


def gemma_bpe(special: list[str]) -> bytes:
    """`tokenizer.json` of a BPE in which "▁" stands for a space, as Gemma's, with <bos> first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=[*string.printable, "▁"],
        show_progress=False,
    )
    return _trained(tokenizer, trainer, "<bos>")


def bert_word_pieces() -> bytes:
    """`tokenizer.json` of BERT's word pieces in lower case, between [CLS] and [SEP]."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=400,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        initial_alphabet=[*string.ascii_lowercase, *string.punctuation],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer.to_str().encode()


def _texts() -> list[str]:
    return (sentences(ILL, RUDE) + sentences(WELL, KIND)) * 3


def _trained(tokenizer: Tokenizer, trainer: trainers.BpeTrainer, bos: str | None) -> bytes:
    tokenizer.train_from_iterator(_texts(), trainer)
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
    return tokenizer.to_str().encode()
