"""`geofilter alarm`: the threshold of the alarm in training, from harmless runs."""

import click

from geofilter.cli.options import json_option
from geofilter.cli.output import note, print_json


@click.command("alarm")
@click.argument("runs", metavar="READINGS...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Where the threshold goes, for HarmAlarm(threshold=FILE).",
)
@click.option(
    "--false-alarms",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="The share of harmless runs that may cross it. Default: 1 in (runs + 1), the least "
    "that so many runs can promise.",
)
@json_option
def command(runs: tuple[str, ...], output: str, false_alarms: float | None, as_json: bool) -> None:
    """Make a threshold for HarmAlarm, which watches a training run, from harmless runs.

    READINGS are the files harm-alarm.jsonl of finished runs on rows that are known to be harmless,
    one for each run, trained as the runs will be that are to be watched. The threshold bounds
    false alarms over such runs. It says nothing about how many harmful runs are caught.

    \b
    Examples:
      geofilter alarm clean-*/harm-alarm.jsonl -o alarm.json
      geofilter alarm clean-*/harm-alarm.jsonl -o alarm.json --false-alarms 0.2
    """
    from geofilter.integrations.alarm_threshold import calibrate
    from geofilter.support.atomic import check_output

    path = check_output(output, overwrite=True)
    found = calibrate(runs, false_alarms=false_alarms)
    found.save(path)
    if as_json:
        print_json(
            {
                "threshold": found.threshold,
                "false_alarms": found.false_alarms,
                "runs": found.runs,
                "steps": found.steps,
                "greatest": found.greatest,
            }
        )
        return
    note(
        f"a change of more than {found.threshold:.4g} raises the alarm; at most "
        f"{found.false_alarms:.1%} of harmless runs cross it, if they are like these {found.runs}"
    )
