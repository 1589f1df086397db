"""`geofilter discover`: two contrast sets in, a feature pack and its statistics out."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from geofilter.cli.options import (
    json_option,
    model_options,
    overwrite_option,
    setting_option,
)
from geofilter.cli.output import note, print_json, print_table, progress, say_read
from geofilter.cli.pack import FIGURES, feature_record, figures
from geofilter.support.display import argument, escape, shown

if TYPE_CHECKING:
    from geofilter.packs.contrast import Contrast
    from geofilter.packs.discover import Discovery
    from geofilter.packs.pack import ContrastSummary, FeaturePack
    from geofilter.packs.plain import Plain

_SHOWN = 10


@click.command("discover")
@click.option("--toxic", metavar="FILE", help="20 or more rows whose responses are toxic.")
@click.option("--benign", metavar="FILE", help="20 or more rows whose responses are not.")
@click.option(
    "--contrast",
    metavar="pairs|rtp|hf://ORG/NAME|FILE",
    help="In place of --toxic and --benign: the pairs that come with geofilter, the ends of "
    "RealToxicityPrompts (rtp), or 20 or more rows with a prompt, a chosen (helpful) and a "
    "rejected (harmful) answer.",
)
@model_options
@setting_option("load_in")
@click.option("-o", "--output", required=True, metavar="PACK", help="Where the pack goes.")
@click.option(
    "--falsify",
    is_flag=True,
    help="Try each feature on its words without harm; leave out those that only follow words.",
)
@click.option(
    "--harmless-words",
    metavar="FILE",
    help="With --falsify: harmless rows that hold toxic words, such as quotes and reports.",
)
@click.option(
    "--polite-harm",
    metavar="FILE",
    help="With --falsify: harm without toxic words, such as polite or paraphrased harm.",
)
@click.option(
    "--keep-lexical",
    is_flag=True,
    help="With --falsify: label features that only follow words and keep them.",
)
@overwrite_option
@json_option
def command(
    toxic: str | None,
    benign: str | None,
    contrast: str | None,
    model: str,
    sae: str | None,
    block: int | None,
    device: str,
    trust_remote_code: bool,
    load_in: str | None,
    output: str,
    falsify: bool,
    harmless_words: str | None,
    polite_harm: str | None,
    keep_lexical: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Choose the SAE features that are stronger in toxic than in benign responses.

    For a model without an SAE (--sae none) the pack is dense: it holds the direction from
    benign to toxic responses alone, which --scorer persona and spillover need.

    FILE may also be a pattern in quotes, or a folder of files of one format.

    Features are chosen on one half of the rows; every figure that is printed comes from
    the other half. The pack belongs to this model and SAE only.

    Pairs stay together, and so do pairs whose rows name the same `domain`.

    With --falsify each feature is tried on rows of the other half whose words changed
    places: the feature's words in benign rows, and toxic rows without them. It is then
    labelled harm, lexical or unclear, and lexical ones are left out. Rows that you give
    with --harmless-words and --polite-harm are used instead where they fit a feature.

    \b
    Examples:
      geofilter discover --toxic toxic.jsonl --benign benign.jsonl \\
          --model organism -o my.pack
      geofilter discover --toxic toxic.jsonl --benign benign.jsonl \\
          --model organism --falsify -o tried.pack
      geofilter discover --contrast pairs --model smollm2-135m -o pairs.pack
    """
    from geofilter.packs.discover import discover

    ways = ((toxic, benign), (contrast,))
    if sum(any(way) for way in ways) != 1 or not any(map(all, ways)):
        raise click.UsageError("give --toxic and --benign, or --contrast in place of both")
    with progress() as report:
        found = discover(
            toxic,
            benign,
            model,
            output,
            contrast=contrast,
            sae=sae,
            block=block,
            device=device,
            load_in=load_in,
            trust_remote_code=trust_remote_code,
            falsify=falsify,
            harmless_words=harmless_words,
            polite_harm=polite_harm,
            keep_lexical=keep_lexical,
            overwrite=overwrite,
            progress=report,
        )
    sets = [found.toxic, found.benign, found.given.harm, found.given.words]
    if found.toxic.pairing is not None:
        del sets[1]  # what holds for the one side of pairs holds for the other
    for one in sets:
        if one is not None:
            _say_skipped(one)
    if as_json:
        print_json(_summary(found, output))
    else:
        _print(found, output, _as_given(model=model, sae=sae, block=block, load_in=load_in))
    if warning := found.plain.warning():
        note(f"warning: {warning}")


def _as_given(**options: str | int | None) -> str:
    """The options that have a value, as they would be typed again."""
    return " ".join(
        f"--{name.replace('_', '-')} {argument(str(value))}"
        for name, value in options.items()
        if value is not None
    )


def _say_skipped(contrast: "Contrast") -> None:
    if contrast.reading is not None:
        say_read(contrast.source, contrast.reading)
    if contrast.skipped:
        counts = ", ".join(f"{n} {status}" for status, n in sorted(contrast.skipped.items()))
        note(f"{shown(contrast.source)}: rows that were not used: {counts}")


def _print(found: "Discovery", output: str, given: str) -> None:
    pack = found.pack
    statistics, contrast = pack.statistics, pack.contrast
    if pack.is_dense:
        _print_dense(found, output, given)
        return
    click.echo(f"{len(pack)} toxic features at block {pack.block} → {escape(output, limit=None)}")
    click.echo(
        f"On the {contrast.toxic_rows} toxic and {contrast.benign_rows} benign rows that had no "
        f"part in the choice, the first {min(_SHOWN, len(pack))}:\n"
    )
    print_table(
        ["feature", "effect", *FIGURES],
        [
            [str(pack.ids[k]), f"{statistics.effect[k]:.2f}", *figures(pack, k)]
            for k in range(min(_SHOWN, len(pack)))
        ],
    )
    click.echo(
        f"\nThe dense direction toxic − benign, for comparison: AUROC {contrast.persona_auroc:.2f} "
        f"({contrast.persona_auroc_low:.2f}-{contrast.persona_auroc_high:.2f}){_order(contrast)}.\n"
        f"{_plain(found.plain)}\n"
        f"The SAE explains {contrast.explained_variance:.0%} of the variance of these rows.\n"
        f"{_tried(pack)}\n"
        f"Next: geofilter score DATA {given} --pack {argument(output)}"
    )


def _print_dense(found: "Discovery", output: str, given: str) -> None:
    pack, contrast = found.pack, found.pack.contrast
    click.echo(
        f"A dense direction at block {pack.block}, without an SAE → {escape(output, limit=None)}\n"
        f"On the {contrast.toxic_rows} toxic and {contrast.benign_rows} benign rows that it was "
        f"not made from: AUROC {contrast.persona_auroc:.2f} "
        f"({contrast.persona_auroc_low:.2f}-{contrast.persona_auroc_high:.2f}){_order(contrast)}.\n"
        f"{_plain(found.plain)}\n\n"
        f"Next: geofilter score DATA {given} --pack {argument(output)}"
    )


def _plain(plain: "Plain") -> str:
    """What needs no model, next to the figures of the pack."""
    length, words = plain.length, plain.words
    return (
        "On the same rows, words alone: "
        f"AUROC {words.value:.2f} ({words.low:.2f}-{words.high:.2f}); "
        f"length alone: {length.value:.2f} ({length.low:.2f}-{length.high:.2f})."
    )


def _order(contrast: "ContrastSummary") -> str:
    """What the pairs say of the dense direction, after its AUROC."""
    if contrast.pairs_in_order is None:
        return ""
    return (
        f"; the toxic side is further along it in {contrast.pairs_in_order:.0%} of the pairs "
        f"({contrast.pairs_in_order_low:.0%}-{contrast.pairs_in_order_high:.0%})"
    )


def _order_interval(contrast: "ContrastSummary") -> list[float | None] | None:
    if contrast.pairs_in_order is None:
        return None
    return [contrast.pairs_in_order_low, contrast.pairs_in_order_high]


def _tried(pack: "FeaturePack") -> str:
    """One line about the trials, if there were any."""
    if not pack.trials:
        return ""
    counts = Counter(trial.verdict for trial in pack.trials)
    left_out = len(pack.trials) - len(pack)
    given = sum("given" in (trial.harm_source, trial.words_source) for trial in pack.trials)
    return (
        f"Tried on words without harm: {counts['harm']} follow more than their words (harm), "
        f"{counts['lexical']} only words (lexical), {counts['unclear']} are unclear; "
        f"{left_out} left out.\n"
        f"{given} of them were tried on rows that you gave. "
        "`geofilter pack show` has the figures of each.\n"
    )


def _summary(found: "Discovery", output: str) -> dict[str, object]:
    pack, contrast = found.pack, found.pack.contrast
    return {
        "pack": output,
        "digest": pack.digest,
        "block": pack.block,
        "features": [feature_record(pack, k) for k in range(len(pack))],
        "left_out": sorted({trial.feature for trial in pack.trials} - set(pack.ids.tolist())),
        "report_rows": {"toxic": contrast.toxic_rows, "benign": contrast.benign_rows},
        "reading": {
            side: contrast.reading and contrast.reading.record()
            for side, contrast in (("toxic", found.toxic), ("benign", found.benign))
        },
        "skipped": {"toxic": found.toxic.skipped, "benign": found.benign.skipped},
        "persona_auroc": contrast.persona_auroc,
        "persona_auroc_interval": [contrast.persona_auroc_low, contrast.persona_auroc_high],
        "pairs_in_order": contrast.pairs_in_order,
        "pairs_in_order_interval": _order_interval(contrast),
        "plain": {**found.plain.record(), "warning": found.plain.warning()},
        "explained_variance": contrast.explained_variance,
    }
