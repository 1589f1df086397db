"""`geofilter geometry`: how near the features of inducing rows lie to toxic ones."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from geofilter.choices import PROXIMITIES
from geofilter.cli.options import device_option, json_option, model_option, sae_option, trust_option
from geofilter.cli.output import note, print_json, print_table, progress
from geofilter.support.display import escape

if TYPE_CHECKING:
    from pathlib import Path

    from geofilter.cli.output import Report
    from geofilter.data.encoder import Encoder
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.pack import FeaturePack
    from geofilter.stats.permutation import RankTrend
    from geofilter.studies.geometry import Closeness, Comparison, ReadSets, Study
    from geofilter.support.charts import Panel


def _numbers(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of blocks, such as 0,1,2")
    return tuple(sorted({int(part) for part in parts}))


@click.command("geometry")
@click.option("--inducing", required=True, metavar="FILE", help="Rows that are thought to induce.")
@click.option("--benign", required=True, metavar="FILE", help="Rows of the same kind that do not.")
@model_option
@click.option(
    "--toxic", metavar="FILE", help="Choose the toxic features by these rows against --benign."
)
@click.option("--pack", metavar="PACK", help="Take the toxic features of this pack, at its block.")
@click.option(
    "--blocks",
    metavar="0,1,2",
    callback=_numbers,
    help="Blocks to compare at. Default: all that the catalogue has an SAE for.",
)
@click.option("--by", metavar="COLUMN", help="Compare the rows of each value of it apart.")
@click.option(
    "--top-k",
    type=click.IntRange(min=2),
    default=100,
    show_default=True,
    help="Features of each side, before toxic ones are left out.",
)
@click.option(
    "--permutations",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Exchanges of labels in a test.",
)
@sae_option
@device_option
@trust_option
@click.option(
    "-o",
    "--output",
    default="geofilter-geometry",
    show_default=True,
    metavar="FOLDER",
    help="Where geometry.json, geometry.png and geometry.svg go.",
)
@json_option
def command(
    inducing: str,
    benign: str,
    model: str,
    toxic: str | None,
    pack: str | None,
    blocks: tuple[int, ...] | None,
    by: str | None,
    top_k: int,
    permutations: int,
    sae: str | None,
    device: str,
    trust_remote_code: bool,
    output: str,
    as_json: bool,
) -> None:
    """Test whether features of inducing rows lie nearer to toxic features than others do.

    Features are the SAE latents most raised in the inducing rows, and those most raised in
    the benign ones. The toxic features come from --pack, from --toxic, or from the contrast
    sets that `geofilter score` takes by default.

    \b
    Example:
      geofilter geometry --inducing bad-advice.jsonl --benign good-advice.jsonl \\
          --model organism --by domain -o geometry
    """
    from geofilter.data.encoder import Encoder
    from geofilter.data.window import window_length
    from geofilter.errors import MissingExtraError
    from geofilter.packs.pack import load_pack
    from geofilter.studies.geometry import read_sets, study
    from geofilter.support.atomic import check_output, writing_folder

    if toxic is not None and pack is not None:
        raise click.UsageError("give either --toxic or --pack, not both")
    check_output(output)
    given = load_pack(pack) if pack is not None else None
    deepest, wanted = _load(model, sae, blocks, given, device, trust_remote_code)
    encoder = Encoder(deepest.tokenizer, max_length=window_length(deepest))
    read = read_sets(inducing, benign, encoder, by=by)
    packs: list[FeaturePack] = []
    with progress() as report:
        source = _pack_source(given, toxic, benign, encoder, report)

        def pack_of(model: "LoadedModel") -> "FeaturePack":
            packs.append(source(model))
            return packs[-1]

        found = study(
            _at_blocks(deepest, wanted),
            read.sets,
            pack_of,
            top_k=top_k,
            permutations=permutations,
            progress=lambda block, done, of: report(f"block {block}", done, of),
        )
    chosen = {"by": by, "top_k": top_k, "permutations": permutations, "pack": pack, "toxic": toxic}
    summary = _summary(found, read, deepest, chosen)
    missing: MissingExtraError | None = None
    with writing_folder(output) as folder:
        (folder / "geometry.json").write_text(
            json.dumps(summary, indent=1, allow_nan=False) + "\n", "ascii"
        )
        try:
            _plot(found, folder / "geometry")
        except MissingExtraError as error:
            missing = error
    _notes(deepest, read, packs)
    if as_json:
        print_json(summary)
    else:
        _print(found, output, by)
    if missing is not None:
        raise missing


def _notes(model: "LoadedModel", read: "ReadSets", packs: "Sequence[FeaturePack]") -> None:
    from geofilter.scoring.rules import domain_fit

    for line in model.notes:
        note(escape(line, limit=None))
    for side, count in read.without_domain.items():
        if count:
            note(f"{count:,} {side} rows have no value in the column of --by and were not used")
    samples = [row for one in read.sets for row in (*one.inducing.samples, *one.benign.samples)]
    unknown = [row.unknown_share for row in samples]
    if strange := domain_fit(unknown, [], packs[0].contrast, figures="figures"):
        note(f"warning: {strange}")
    benign = {one.benign.sha256 for one in read.sets}
    if any(pack.made_from("benign") in benign for pack in packs):
        note(
            "the toxic features were chosen against the same benign rows, which alone brings "
            "inducing features nearer to them; a --pack of other benign rows does not"
        )


def _load(
    model: str,
    sae: str | None,
    blocks: tuple[int, ...] | None,
    pack: "FeaturePack | None",
    device: str,
    trust_remote_code: bool,
) -> "tuple[LoadedModel, Sequence[int]]":
    """The model as deep as it is needed, and the blocks to read it at."""
    from geofilter.model import loading

    if pack is not None:
        if blocks not in (None, (pack.block,)):
            raise click.UsageError(f"the pack is for block {pack.block} only; leave out --blocks")
        blocks = (pack.block,)
    if sae is not None and blocks is not None and len(blocks) > 1:
        raise click.UsageError("an SAE reads one block; leave out --sae or give one of --blocks")
    entry = loading.CATALOGUE.get(model)
    if blocks is None and entry is not None and sae is None:
        blocks = tuple(sorted(entry.sae))
    if entry is not None and sae is None:
        for block in blocks or ():
            loading.choose(model, None, block, device, None)  # refuses a block without an SAE
    loaded = loading.load(
        model,
        sae=sae,
        block=max(blocks) if blocks else None,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    return loaded, blocks or (loaded.block,)


def _at_blocks(deepest: "LoadedModel", blocks: "Sequence[int]") -> "Iterator[LoadedModel]":
    from geofilter.model.loading import at_block

    for block in blocks:
        yield at_block(deepest, block)


def _pack_source(
    given: "FeaturePack | None",
    toxic: str | None,
    benign: str,
    encoder: "Encoder",
    report: "Report",
) -> "Callable[[LoadedModel], FeaturePack]":
    """What gives the toxic features of a block: the pack, the toxic rows, or the default sets."""
    from geofilter.packs.contrast import read_contrast
    from geofilter.packs.default_pack import DefaultPack
    from geofilter.packs.discover import discover

    sets = [read_contrast(place, encoder) for place in (toxic, benign)] if toxic else None

    def pack_of(model: "LoadedModel") -> "FeaturePack":
        if given is not None:
            given.verify(model)
            return given

        def told(done: int, of: int) -> None:
            report(f"discover at block {model.block}", done, of)

        if sets is not None:
            return discover(model, *sets, progress=told).pack
        default = DefaultPack(model)
        return default.cached() or default.make(told)

    return pack_of


# -- what is told -------------------------------------------------------------------


def _summary(
    found: "Study", read: "ReadSets", model: "LoadedModel", chosen: Mapping[str, object]
) -> dict[str, object]:
    from dataclasses import asdict

    from geofilter.support.manifest import library_versions

    return {
        "model": model.name,
        "revision": model.revision,
        **chosen,
        "sets": [
            {
                "domain": one.domain,
                "inducing": one.inducing.describe(),
                "benign": one.benign.describe(),
            }
            for one in read.sets
        ],
        "without_domain": dict(read.without_domain),
        "versions": library_versions(["geofilter", "torch", "transformers", "sae-lens"]),
        "comparisons": [_comparison(one) for one in found.comparisons],
        "left_out": [asdict(one) for one in found.left_out],
        "block_trend": {form: asdict(trend) for form, trend in found.trend.items()},
    }


def _comparison(one: "Comparison") -> dict[str, object]:
    return {
        "block": one.block,
        "domain": one.domain,
        "rows": dict(one.rows),
        "features": {side: ids.tolist() for side, ids in one.features.items()},
        "shared": dict(one.shared),
        "unconfirmed": dict(one.unconfirmed),
        **{form: _closeness(closeness) for form, closeness in one.closeness.items()},
    }


def _closeness(one: "Closeness") -> dict[str, object]:
    sides = {"inducing": one.inducing, "other": one.other}
    return {
        **{side: float(values.mean()) for side, values in sides.items()},
        "effect_size": one.effect_size,
        "effect_interval": [one.effect_low, one.effect_high],
        "p": one.p,
        "p_holm": one.p_holm,
        "proximity": {side: values.round(6).tolist() for side, values in sides.items()},
    }


def _plot(found: "Study", path: "Path") -> None:
    from geofilter.support import charts

    title = "Proximity of features to toxic features: mean (mark), 25-75 %, 5-95 % of features"
    charts.save(path, charts.distributions(_panels(found), title=title))


def _panels(found: "Study") -> "list[Panel]":
    from geofilter.support.charts import Panel

    domains = dict.fromkeys(one.domain for one in found.comparisons)
    return [
        Panel(
            "all rows" if domain is None else domain,
            "block",
            "mean cosine to all" if form == "mean" else "cosine to the nearest",
            {
                str(one.block): {
                    "inducing": one.closeness[form].inducing,
                    "other": one.closeness[form].other,
                }
                for one in found.comparisons
                if one.domain == domain
            },
        )
        for domain in domains
        for form in PROXIMITIES
    ]


def _print(found: "Study", output: str, by: str | None) -> None:
    click.echo("Features of inducing / other rows, and their cosine to the toxic features:\n")
    head = ["block", *([escape(by, limit=24)] if by is not None else []), "features"]
    head += ["toxic, left out", "cosine", "inducing / other", "effect [95 %]", "p", "Holm"]
    print_table(head, [line for one in found.comparisons for line in _lines(one, by)])
    for left in found.left_out:
        click.echo(f"left out: {escape(left.reason, limit=300)}")
    click.echo()
    for form, trend in found.trend.items():
        click.echo(_trend_line(form, trend, found))
    tests = len(found.comparisons) * len(PROXIMITIES)
    click.echo(
        "p is one-sided, small where inducing features lie nearer; Holm corrects it for the "
        f"{tests} tests\nabove. They take features for independent, which they are not quite. "
        "Rows of any kind that share\nwords or style with toxic text can come out as near: "
        f"nearer is not yet harmful.\n\nWritten: {escape(output, limit=None)}"
    )


def _lines(one: "Comparison", by: str | None) -> "Iterator[list[str]]":
    """A line for each form of proximity; what they share stands in the first."""
    first = [str(one.block), *([escape(one.domain, limit=24)] if by is not None else [])]
    for counts in ({side: len(ids) for side, ids in one.features.items()}, one.shared):
        first.append(f"{counts['inducing']} / {counts['other']}")
    for form, found in one.closeness.items():
        yield [
            *first,
            form,
            f"{found.inducing.mean():+.3f} / {found.other.mean():+.3f}",
            f"{found.effect_size:+.2f} [{found.effect_low:+.2f}, {found.effect_high:+.2f}]",
            f"{found.p:.2g}",
            f"{found.p_holm:.2g}",
        ]
        first = [""] * len(first)


def _trend_line(form: str, trend: "RankTrend", found: "Study") -> str:
    blocks = len({one.block for one in found.comparisons})
    return (
        f"{form} cosine: rank correlation of block and effect size {trend.rho:+.2f} over {blocks} "
        f"blocks\n(negative: earlier ones stronger); one-sided p {trend.p_falling:.2g} for "
        f"earlier, {trend.p_rising:.2g} for later ones stronger;\nwith {blocks} blocks none "
        f"falls below {trend.smallest_p:.2g}.\n"
    )
