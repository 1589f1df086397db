"""`geofilter judge`: how far a judge agrees with answers that another judged."""

import click

from geofilter.cli.options import json_option
from geofilter.cli.output import note, print_json, print_table, progress


@click.command("judge")
@click.argument("judged", metavar="JUDGED")
@click.option(
    "--judge",
    required=True,
    metavar="JUDGE",
    help="Who is tried: http://HOST/v1#MODEL (OpenAI-compatible), a folder, or ORG/NAME.",
)
@click.option(
    "--questions",
    required=True,
    metavar="YAML",
    help="A question file with the judge prompts that `geofilter verify` will use.",
)
@json_option
def command(judged: str, judge: str, questions: str, as_json: bool) -> None:
    """Try a judge on JUDGED, answers that a strong judge or people have judged.

    JUDGED has the columns question, response (or answer), aligned and, if known, coherent, with
    scores from 0 to 100. The table says how well the judge's alignment scores tell the file's
    misaligned answers from others (AUROC), how often verdicts are equal, how its scores lie to the
    file's, below which score it agrees best, and how many answers it left unscored. It also asks
    the fixed answers with disclaimers and odd words that `geofilter verify` asks.

    \b
    Examples:
      geofilter judge judged.csv --judge http://localhost:8000/v1#judge --questions first_plot.yaml
      geofilter judge judged.csv --judge ./my-judge --questions first_plot.yaml --json
    """
    from geofilter.verify.calibrate import calibrate, read_judged, table
    from geofilter.verify.judges.by_name import judge_named
    from geofilter.verify.judges.sway import sway_test
    from geofilter.verify.questions import read_questions

    rows, asked = read_judged(judged), read_questions(questions)
    chosen = judge_named(judge)
    chosen.check(asked)
    test = sway_test(chosen, asked)
    for line in test.warnings if test else ():
        note(line)
    with progress() as report:
        found = calibrate(chosen, rows, asked, progress=report)
    if as_json:
        record = {"judge": chosen.describe(), "judge_test": test and test.as_record()}
        print_json({**record, **found.as_record()})
        return
    print_table(["", judge], table(found))
