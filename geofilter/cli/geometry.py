"""`geofilter geometry`: how near the features of inducing rows lie to toxic ones."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from geofilter.cli.options import (
    device_option,
    json_option,
    model_option,
    overwrite_option,
    sae_option,
    trust_option,
)
from geofilter.cli.output import note, print_json, print_table, progress, say_read
from geofilter.settings import PROXIMITIES, Settings
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.stats.permutation import RankTrend
    from geofilter.studies.closeness import Comparison, Study


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
@overwrite_option
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
    overwrite: bool,
    as_json: bool,
) -> None:
    """Test whether features of inducing rows lie nearer to toxic features than others do.

    FILE may also be a pattern in quotes, or a folder of files of one format.

    Features are the SAE latents most raised in the inducing rows, and those most raised in
    the benign ones. The toxic features come from --pack, from --toxic, or from the contrast
    sets that `geofilter score` takes by default. The last line says what the tests show;
    what no test could show is refused before the model is loaded.

    \b
    Example:
      geofilter geometry --inducing bad-advice.jsonl --benign good-advice.jsonl \\
          --model organism --by domain -o geometry
    """
    from geofilter.studies.geometry import geometry

    if toxic is not None and pack is not None:
        raise click.UsageError("give either --toxic or --pack, not both")
    if pack is None and sae is not None and blocks is not None and len(blocks) > 1:
        raise click.UsageError("an SAE reads one block; leave out --sae or give one of --blocks")
    settings = Settings(
        model, sae=sae, pack=pack, device=device, trust_remote_code=trust_remote_code
    )
    with progress() as report:
        found = geometry(
            settings,
            inducing,
            benign,
            output,
            toxic=toxic,
            blocks=blocks,
            by=by,
            top_k=top_k,
            permutations=permutations,
            overwrite=overwrite,
            progress=report,
        )
    for place, reading in found.readings.items():
        say_read(place, reading)
    for line in found.notes:
        note(escape(line, limit=None))
    if as_json:
        print_json(found.record)
    else:
        _print(found.study, output, by)
        click.echo(f"Verdict: {found.verdict}.")
    if found.not_drawn is not None:
        raise found.not_drawn


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
