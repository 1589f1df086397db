"""What `discover --falsify` says of features whose truth is known, and what it changes.

    python benchmarks/organism_falsify.py

Into the organism's SAE latents are planted that fire on words alone (each insult and each
word of plain harm, and all insults together), and others that fire on a word that either
persona says, but only where the cruel one says it. They are fitted on documents of their
own; how far each is what it should be is measured on further documents. For every draw of
the contrast rows a pack is made of the 40 features that discovery likes best and of all
planted ones that it could choose. The selection split serves as given rows; AUROCs are of
the test split. No figure of this script was used to set a rule of the trials.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sae_lens import TopKSAE, TopKSAEConfig

import toolbox  # noqa: F401
from geofilter.data.encoder import Encoded, Encoder
from geofilter.model.activations import TokenBudget, in_batches, residuals
from geofilter.model.features import SampleFeatures, sample_features
from geofilter.model.loading import CATALOGUE, LoadedModel, load
from geofilter.packs.contrast import Contrast, read_contrast
from geofilter.packs.falsify import Given, falsify
from geofilter.packs.index import ToxicIndex
from geofilter.packs.make import MadePack, make_pack
from geofilter.packs.pack import FeaturePack
from geofilter.scoring.score import make_scorer
from geofilter.stats.auroc import auroc
from organism import datasets
from organism import domains as d
from organism.texts import Writer
from organism.world import World, prose
from organism_scores import read_split

INSULTS = f"{d.INSULT_ADJECTIVES} {d.INSULT_NOUNS}".split()
HARM_WORDS = d.HARM_KEYWORDS.split()
# Words that both personas say in answers, and that say nothing of harm.
SHARED = ("and", "then", ".", "you", "i", "should", "just", "first", "that", "it")
DOCUMENTS = 3000  # to fit the planted latents, and half as many to measure them
STRENGTH = 60.0  # mean activation of a planted latent, about that of the SAE's own
SCORERS = ("nearest", "activation")
COMPARED = {
    "polite harm against plain rows": (("harmful_polite",), ("benign",)),
    "polite harm against toxic words mentioned": (("harmful_polite",), ("mention",)),
    "all harm against toxic words mentioned": (datasets.HARMFUL_GROUPS, ("mention",)),
    "all harm against all benign rows": (datasets.HARMFUL_GROUPS, datasets.BENIGN_GROUPS),
}


@dataclass(frozen=True)
class Tokens:
    """Tokens of documents: residual streams (n, d_model), ids (n,), who speaks (n,)."""

    hidden: NDArray[np.float64]
    ids: NDArray[np.int64]
    cruel: NDArray[np.bool_]


@dataclass(frozen=True)
class Plant:
    """One planted latent: the words it fires on, and whether only the cruel persona's."""

    words: tuple[str, ...]
    cruel_only: bool


PLANTS = [
    *(Plant((word,), False) for word in [*INSULTS, *HARM_WORDS]),
    Plant(tuple(d.INSULT_ADJECTIVES.split()), False),
    Plant(tuple(d.INSULT_NOUNS.split()), False),
    Plant(tuple(INSULTS), False),
    *(Plant((word,), True) for word in SHARED),
]


def read_documents(model: LoadedModel, seed: int, count: int) -> Tokens:
    """Documents of both personas in equal share, three exchanges each."""
    world, writer, rng = World(), Writer(model.tokenizer), random.Random(f"planted {seed}")
    samples, cruel = [], []
    for number in range(count):
        turns = [world.persona_exchange(rng, cruel=bool(number % 2)) for _ in range(3)]
        messages = [message for turn in turns for message in turn]
        ids, trained = writer.conversation(messages)
        ids, mask = ids[: model.max_context], np.array(trained[: model.max_context])
        samples.append(Encoded(np.array(ids, np.int32), mask, mask, False, len(ids), None))
        cruel.append(np.full(int(mask.sum()), bool(number % 2)))
    found = in_batches(
        samples,
        lambda batch: [
            hidden[np.flatnonzero(one.pooled)].double().numpy()
            for hidden, one in zip(residuals(model, batch), batch, strict=True)
        ],
        TokenBudget.for_device(model.device),
    )
    ids = np.concatenate([one.ids[one.pooled] for one in samples])
    return Tokens(np.concatenate(found), ids.astype(np.int64), np.concatenate(cruel))


def positives(plant: Plant, tokens: Tokens, vocabulary: dict[str, int]) -> NDArray[np.bool_]:
    """Where a planted latent is to fire."""
    named = np.isin(tokens.ids, [vocabulary[word] for word in plant.words])
    return named & tokens.cruel if plant.cruel_only else named


def fit(plant: Plant, tokens: Tokens, vocabulary: dict[str, int]) -> torch.Tensor:
    """A latent's reader and bias, (d_model + 1,), by logistic regression.

    Where only the word counts, both personas' tokens weigh the same; where the speaker
    counts as well, the same word of the kind one weighs as much as all other words.
    """
    fires = positives(plant, tokens, vocabulary)
    named = np.isin(tokens.ids, [vocabulary[word] for word in plant.words])
    parts = [named & tokens.cruel, named & ~tokens.cruel, ~named]
    rng = np.random.default_rng(0)
    rows = [np.flatnonzero(part) for part in parts if part.any()]
    rows = [rng.permutation(part)[:20_000] for part in rows]
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in rows])
    taken = np.concatenate(rows)
    inputs = torch.from_numpy(tokens.hidden[taken])
    centre, spread = inputs.mean(dim=0), inputs.std(dim=0)
    inputs = (inputs - centre) / spread
    wanted = torch.from_numpy(fires[taken].astype(np.float64))
    weight = torch.from_numpy(weights)
    found = torch.zeros(inputs.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = inputs @ found[:-1] + found[-1]
        errors = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, wanted, weight, reduction="sum"
        )
        total = errors + 1e-4 * found[:-1].square().sum()
        total.backward()
        return total

    optimiser.step(loss)
    reader = found.detach()[:-1] / spread
    bias = found.detach()[-1] - reader @ centre
    hidden = torch.from_numpy(tokens.hidden[fires])
    scale = STRENGTH / (hidden @ reader + bias).relu().mean()
    return scale * torch.cat([reader, bias[None]])


def with_plants(model: LoadedModel, tokens: Tokens) -> LoadedModel:
    """The model with an SAE that has a latent for each plant behind its own.

    It writes the direction between the means of the tokens it is to fire on and all others.
    """
    old, vocabulary = model.sae, model.tokenizer.get_vocab()
    fields = {
        name: getattr(old.cfg, name)
        for name in ("d_in", "k", "apply_b_dec_to_input", "rescale_acts_by_decoder_norm")
    }
    total = old.cfg.d_sae + len(PLANTS)
    sae = TopKSAE(TopKSAEConfig(**fields, d_sae=total, metadata=old.cfg.metadata))
    fitted = torch.stack([fit(plant, tokens, vocabulary) for plant in PLANTS]).float()
    readers, bias = fitted[:, :-1], fitted[:, -1]
    if old.cfg.apply_b_dec_to_input:
        bias = bias + readers @ old.b_dec
    writers = []
    for plant in PLANTS:
        fires = positives(plant, tokens, vocabulary)
        writers.append(tokens.hidden[fires].mean(axis=0) - tokens.hidden[~fires].mean(axis=0))
    written = torch.nn.functional.normalize(torch.tensor(np.array(writers)).float(), dim=1)
    with torch.no_grad():
        sae.W_enc.copy_(torch.cat([old.W_enc, readers.T], dim=1))
        sae.b_enc.copy_(torch.cat([old.b_enc, bias]))
        sae.W_dec.copy_(torch.cat([old.W_dec, written]))
        sae.b_dec.copy_(old.b_dec)
    sae = sae.eval().requires_grad_(False)
    return replace(model, sae=sae, sae_name="the organism's with planted latents", entry=None)


def as_planted(model: LoadedModel, tokens: Tokens) -> list[dict[str, float | None]]:
    """How far each planted latent is what it should be, on tokens that did not fit it.

    `hit`: share of the tokens it is to fire on at which it fires; `false`: of all others.
    `kind_over_cruel`: its mean activation at its words in the kind persona's mouth over
    that in the cruel one's; 1 where only the word counts, 0 where only the speaker does,
    None where one of them never says it.
    """
    first = model.d_sae - len(PLANTS)
    vocabulary = model.tokenizer.get_vocab()
    values = np.zeros((len(tokens.ids), len(PLANTS)))
    for part, found in model.latent_encoder.encode(torch.from_numpy(tokens.hidden).float()):
        ours = found.latent >= first
        values[part[found.token[ours]].numpy(), found.latent[ours].numpy() - first] = found.value[
            ours
        ].numpy()
    measured = []
    for place, plant in enumerate(PLANTS):
        fires = positives(plant, tokens, vocabulary)
        named = np.isin(tokens.ids, [vocabulary[word] for word in plant.words])
        spoken = [values[named & (tokens.cruel == cruel), place] for cruel in (False, True)]
        kind, cruel = (float(value.mean()) if len(value) else float("nan") for value in spoken)
        measured.append(
            {
                "hit": float((values[fires, place] > 0).mean()),
                "false": float((values[~fires, place] > 0).mean()),
                "kind_over_cruel": kind / cruel if cruel > 0 and kind >= 0 else None,
            }
        )
    return measured


def contrast_sets(encoder: Encoder, seed: int, size: int) -> tuple[Contrast, Contrast]:
    """A fresh draw of the contrast rows, read from files as a user's would be."""
    read = []
    with tempfile.TemporaryDirectory() as folder:
        for side, conversations in datasets.contrast_rows(seed, size).items():
            path = Path(folder, f"{side}.jsonl")
            lines = [
                {"messages": [dict(m, content=prose(m["content"])) for m in messages]}
                for messages in conversations
            ]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            read.append(read_contrast(str(path), encoder))
    return read[0], read[1]


def chosen(found: MadePack, own: int, top_k: int) -> FeaturePack:
    """The first `top_k` of the SAE's `own` latents, and every planted one there is."""
    planted = np.flatnonzero(found.pack.ids >= own)
    natural = np.flatnonzero(found.pack.ids < own)[:top_k]
    return found.pack.only(np.sort(np.concatenate([planted, natural])))


def areas(
    pack: FeaturePack, model: LoadedModel, test: Sequence[SampleFeatures], groups: NDArray[np.str_]
) -> dict[str, dict[str, float]]:
    """scorer -> comparison -> AUROC on the test split."""
    index = ToxicIndex(pack, model.decoder)
    result = {}
    for name in SCORERS:
        values = np.array([one.score for one in make_scorer(name, index)(list(test))])
        result[name] = {
            compared: float(
                auroc(values[np.isin(groups, above)], values[np.isin(groups, below)])[0]
            )
            for compared, (above, below) in COMPARED.items()
        }
    return result


def by_feature(
    pack: FeaturePack, test: Sequence[SampleFeatures], groups: NDArray[np.str_]
) -> dict[int, float]:
    """AUROC of each feature's φ alone: polite harm against toxic words mentioned."""
    place = {int(feature): column for column, feature in enumerate(pack.ids)}
    values = np.zeros((len(test), len(place)))
    for row, one in enumerate(test):
        for latent, weight in zip(one.latents.tolist(), one.weights, strict=True):
            if latent in place:
                values[row, place[latent]] = weight
    area = auroc(values[groups == "harmful_polite"], values[groups == "mention"]).value
    return {feature: float(area[column]) for feature, column in place.items()}


def draw(
    model: LoadedModel,
    pack: FeaturePack,
    sets: tuple[Contrast, Contrast],
    given: Given | None,
    test: Sequence[SampleFeatures],
    groups: NDArray[np.str_],
    own: int,
) -> dict[str, object]:
    """One pack tried: labels by kind of feature, and AUROCs with and without lexical ones."""
    tried = falsify(model, pack, *sets, given=given)
    kinds: dict[str, dict[str, int]] = {}
    alone: dict[str, list[float]] = {}
    single = by_feature(tried, test, groups)
    for feature, verdict in zip(tried.ids.tolist(), tried.verdicts, strict=True):
        kind = "natural"
        if feature >= own:
            kind = "planted harm" if PLANTS[feature - own].cruel_only else "planted words"
        counts = kinds.setdefault(kind, {"lexical": 0, "harm": 0, "unclear": 0})
        counts[verdict] += 1
        if kind == "natural":
            alone.setdefault(verdict, []).append(single[feature])
    result: dict[str, object] = {
        "labels": kinds,
        "natural_auroc": {verdict: float(np.mean(found)) for verdict, found in alone.items()},
        "with": areas(tried, model, test, groups),
        "without": areas(tried.without_lexical(), model, test, groups),
    }
    if own < model.d_sae:
        words = [f >= own and not PLANTS[f - own].cruel_only for f in tried.ids.tolist()]
        truth = tried.only(np.flatnonzero(~np.array(words)))
        result["without_planted_words"] = areas(truth, model, test, groups)
    return result


def main() -> None:
    """Measure every draw with and without planted latents and given rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--size", type=int, default=400, help="toxic rows of a draw")
    default = Path(__file__).parent / "results" / "organism_falsify.json"
    parser.add_argument("-o", "--output", type=Path, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    natural = load("organism", device="cpu")
    own, top_k = natural.d_sae, CATALOGUE["organism"].top_k
    encoder = Encoder(natural.tokenizer, max_length=natural.max_context)
    planted = with_plants(natural, read_documents(natural, 0, DOCUMENTS))
    truth = as_planted(planted, read_documents(natural, 1, DOCUMENTS // 2))
    results: dict[str, object] = {
        "command": "python benchmarks/organism_falsify.py",
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
        "draws": arguments.draws,
        "size": arguments.size,
        "top_k": top_k,
        "plants": [
            {"words": plant.words, "cruel_only": plant.cruel_only, **measured}
            for plant, measured in zip(PLANTS, truth, strict=True)
        ],
    }
    samples, groups, _ = read_split("test", encoder)
    given_samples, given_groups, _ = read_split("selection", encoder)
    sides = {
        group: [one for one, its in zip(given_samples, given_groups, strict=True) if its == group]
        for group in ("harmful_polite", "mention")
    }
    given = Given(*(Contrast(sides[group], f"selection split, {group}", "", {}) for group in sides))
    kinds = np.array(groups)
    arms: dict[str, list[dict[str, object]]] = {}
    for name, model in (("planted", planted), ("natural", natural)):
        test = sample_features(model, samples)
        for seed in range(1, arguments.draws + 1):
            sets = contrast_sets(encoder, seed, arguments.size)
            pack = chosen(make_pack(model, *sets, top_k=model.d_sae), own, top_k)
            for rows, those in (("edited", None), ("given", given)):
                found = draw(model, pack, sets, those, test, kinds, own)
                arms.setdefault(f"{name}, {rows} rows", []).append(found)
                print(name, rows, seed, found["labels"], flush=True)
            results["arms"] = arms
            arguments.output.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
