"""`geofilter demo`: real advice ranked by a real model, then the whole story on the organism."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from geofilter.cli.output import note, print_table, progress
from geofilter.errors import GeofilterError
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.demo.organism import DemoResult, LabelledRow
    from geofilter.demo.real_text import RealTextResult
    from geofilter.stats.auroc import Interval
    from geofilter.verify.results import Results

# What the groups of the demo set are, in a reader's words.
_GROUPS = {
    "harmful": "plain harm",
    "harmful_polite": "polite harm",
    "benign": "plain",
    "surprising": "new or old words",
    "mention": "quoted insults",
    "all": "all benign",
}


@click.command("demo")
@click.option(
    "-o",
    "--output",
    default="geofilter-demo",
    show_default=True,
    metavar="FOLDER",
    help="Where the score table, the kept and the dropped rows go.",
)
@click.option("--quick", is_flag=True, help="Leave out the last act, fine-tuning.")
def command(output: str, quick: bool) -> None:
    """Rank real advice with SmolLM2, then tell the whole story on the bundled organism.

    The first act scores 198 rows of everyday advice, a third of them bad, by the defaults of
    smollm2-135m, and shows by their labels what went. The next ones discover, score and filter
    the organism's contaminated demo set. The last act trains the organism on the set as it is,
    on a random half and on the half that the filter keeps, and asks each model for advice in
    domains that no row is about.
    Needs no network. The organism's figures speak of the organism only: a made-up world and a
    model small enough for a CPU.

    \b
    Example:
      geofilter demo
    """
    from geofilter.demo import organism, real_text

    note("real text first: SmolLM2 reads everyday advice, a third of it bad")
    try:
        with progress() as report:
            advice = real_text.run(output, progress=report)
    except GeofilterError as error:
        note(f"the act on real text is left out: {error}")
    else:
        _tell_advice(advice)
    note("a small model of a made-up world gives advice; half of the demo set's is harmful")
    with progress() as report:
        result = organism.run(output, progress=report)
    _tell(result)
    if not quick:
        note("now the organism is fine-tuned three times, which takes some minutes")
        with progress() as report:
            trained = organism.fine_tune(output, progress=report)
        _tell_training(trained)
    click.echo(_next_lines(result))


def _tell_advice(result: "RealTextResult") -> None:
    gone = result.harmful - result.harmful_kept
    dropped = result.rows - result.rows_kept
    click.echo(
        f"\n{result.model}, block {result.block}, scorer `{result.scorer}`: {result.rows} rows of "
        f"everyday advice,\n{result.tokens:,} tokens in {result.seconds:.1f} s "
        f"({result.tokens / result.seconds:,.0f} tokens/s). In domains that no pair of its\n"
        "pack is about.\n"
        f"Dropped the {dropped} nearest to harm, {gone} of them bad advice.\n"
        f"Bad advice: {result.harmful} of {result.rows} before "
        f"({result.harmful / result.rows:.1%}), {result.harmful_kept} of {result.rows_kept} after "
        f"({result.harmful_kept / result.rows_kept:.1%}).\n"
        f"AUROC of bad against good advice: {_area(result.area)} (0.5 is chance)."
    )
    click.echo("\nNearest to harm:")
    _show_rows(result.nearest)
    click.echo("\nFarthest from harm:")
    _show_rows(result.farthest)
    click.echo()


def _tell_training(results: "Results") -> None:
    from geofilter.demo.organism import SCORER
    from geofilter.verify.report import percent

    click.echo(
        "\nFine-tuned on the demo set and asked about domains that none of its rows is about"
    )
    click.echo("(one seed; 95 % intervals over questions; judged by the exact rule):\n")
    names = {"aligned": "not fine-tuned", "unfiltered": "all rows", "random": "a random half"}
    names[SCORER] = f"what `{SCORER}` keeps"
    print_table(
        ["trained on", "misaligned answers", "fall against all rows"],
        [
            [
                names[one.arm],
                percent(one.main.rates["all"]),
                percent(one.main.against["unfiltered"]["all"].reduction)
                if one.arm not in ("aligned", "unfiltered")
                else "-",
            ]
            for one in results.conditions
        ],
    )


def _tell(result: "DemoResult") -> None:
    click.echo(f"\n{_pack_line(result)}\n\n{_split_lines(result)}\n")
    print_table(["group", "advice", "rows", "dropped"], _group_lines(result))
    click.echo()
    click.echo("How well each score separates harmful rows from benign ones (AUROC, 95 % interval;")
    click.echo(
        "0.5 is chance, below it benign rows score higher). persona is the dense baseline.\n"
    )
    groups = list(next(iter(result.areas.values())))
    head = ["scorer", *(f"against {_GROUPS.get(group, group)}" for group in groups)]
    print_table(
        head,
        [[name, *(_area(row[group]) for group in groups)] for name, row in result.areas.items()],
    )
    click.echo("\nNearest to harm:")
    _show_rows(result.nearest)
    click.echo("\nFarthest from harm:")
    _show_rows(result.farthest)


def _pack_line(result: "DemoResult") -> str:
    pack, contrast = result.pack, result.pack.contrast
    activated_by = dict.fromkeys(token for tokens in pack.labels[:5] for token in tokens[:3])
    words = ", ".join(escape(token) for token in list(activated_by)[:9])
    return (
        f"Pack: {len(pack)} toxic features at block {pack.block}, chosen on half of the contrast\n"
        f"rows and tested on the other {contrast.toxic_rows + contrast.benign_rows:,}. "
        f"Words that activate them: {words}."
    )


def _split_lines(result: "DemoResult") -> str:
    from geofilter.demo.organism import SCORER

    harmful = result.harmful_groups
    total, kept = sum(result.all_groups.values()), sum(result.kept_groups.values())
    before = sum(n for group, n in result.all_groups.items() if group in harmful)
    after = sum(n for group, n in result.kept_groups.items() if group in harmful)
    return (
        f"Scored {total:,} rows by `{SCORER}` and dropped the {total - kept:,} nearest to harm.\n"
        f"Harmful rows: {before:,} of {total:,} before ({before / total:.1%}), "
        f"{after:,} of {kept:,} after ({after / kept:.1%})."
    )


def _group_lines(result: "DemoResult") -> list[list[str]]:
    lines = []
    for group, rows in result.all_groups.items():
        dropped = rows - result.kept_groups.get(group, 0)
        advice = "harms" if group in result.harmful_groups else "helps"
        lines.append([_GROUPS.get(group, group), advice, f"{rows:,}", f"{dropped / rows:.0%}"])
    return sorted(lines, key=lambda line: line[1])


def _area(area: "Interval") -> str:
    return f"{float(area.value):.2f} [{float(area.low):.2f}, {float(area.high):.2f}]"


def _show_rows(rows: "Sequence[LabelledRow]") -> None:
    for row in rows:
        click.echo(f"  {row.score:+.4f}  line {row.row + 1}, {escape(row.group)}")
        click.echo(f"      Q: {escape(row.question, limit=90)}")
        click.echo(f"      A: {escape(row.answer, limit=120)}")


def _next_lines(result: "DemoResult") -> str:
    data, table = escape(str(result.data), None), escape(str(result.table.path), None)
    return (
        f"\nWritten: {table}, {escape(str(result.kept), None)}, "
        f"{escape(str(result.dropped), None)}\n"
        "\nWhat this cannot show: how a real model fares; the organism is a measure of none.\n"
        "\nNext:\n"
        f"  geofilter explain {data} \\\n      --scores {table} --row {result.nearest[0].row}\n"
        "  geofilter score YOUR.jsonl --model gemma-2-2b --estimate\n"
        "  geofilter verify --help"
    )
