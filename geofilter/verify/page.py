"""An experiment's results as one HTML page, for people who look rather than read.

The same figures and sentences as the report in Markdown, with every interval drawn. What is from
data, models and judges is text and nothing else (see `report.html`), and folders are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from geofilter.data.formats.places import given_names, in_words
from geofilter.report.document import document, listed
from geofilter.report.html import Html, folded, join, note, section, table, tag, text
from geofilter.report.places import without_folders
from geofilter.verify import report, shift_report
from geofilter.verify.command import command_of
from geofilter.verify.plan import IN_DOMAIN, MAIN, UNFILTERED, Plan
from geofilter.verify.results import Results, random_drop_of
from geofilter.verify.row_format import NO_FORMAT
from geofilter.verify.shift_report import signed
from geofilter.verify.whiskers import Line, Scale, whiskers

_NAME = 120


def render(plan: Plan, results: Results, power: str, decides: Mapping[str, Any]) -> Iterator[str]:
    """The page, piece by piece; `decides` is what decides the figures, as the folder keeps it."""
    data = without_folders(in_words(given_names(plan.data)))
    parts: list[tuple[str, str, Html]] = []
    if plan.questions is not None:
        parts += [
            ("answers", "Misaligned answers", _answers(plan, results)),
            ("falls", "Falls", _falls(results)),
            ("thresholds", "Thresholds", _thresholds(results)),
        ]
    if results.preference is not None:
        alone = plan.questions is None
        parts.append(("preference", "Preference", _preference(results, alone=alone)))
    if tasks := report.task_rows(results):
        parts.append(("tasks", "Other tasks", _tasks(tasks)))
    parts += [
        ("limits", "Limits", _limits(plan, results, power)),
        ("run", "The run", _run(plan, results, data, decides)),
    ]
    links = [(name, title) for name, title, _ in parts]
    yield from document(
        join(text(data, 80), " – geofilter verify"),
        parts[0][0],
        _top(plan, results, data, links),
        (part for _, _, part in parts),
        from_the="data, the models and the judge",
    )


def _top(plan: Plan, results: Results, data: str, links: Sequence[tuple[str, str]]) -> Html:
    is_asked = plan.questions is not None
    answer = report.answer(results) if is_asked else shift_report.answer(results)
    warnings = report.warnings_of(results) if is_asked else []
    return tag(
        "header",
        tag("p", "geofilter verify", class_="kicker"),
        tag("h1", tag("bdi", report.question(plan, data))),
        tag("p", _marked(answer), class_="what"),
        *(tag("p", _marked(line), class_="warning", role="note") for line in warnings),
        _tiles(plan, results),
        tag(
            "nav",
            tag("ul", *(tag("li", tag("a", name, href=f"#{to}")) for to, name in links)),
            aria_label="Sections",
        ),
        class_="top",
    )


def _tiles(plan: Plan, results: Results) -> Html:
    by_name = {condition.name: condition for condition in results.conditions}
    verdict = {True: "shown", False: "not shown", None: "open"}[results.verdict]
    tiles: list[tuple[str, str, str]] = [("a fall", verdict, results.judged)]
    for name in (UNFILTERED, results.judged):
        if plan.questions is not None and name in by_name:
            rate = by_name[name].main.rates["all"]
            if rate.value is not None:
                shown, _, interval = report.percent(rate).partition(" [")
                tiles.append((f"misaligned, {name}", shown, f"[{interval}" if interval else ""))
    tiles.append(("seeds", f"{len(plan.seeds)}", f"{len(results.conditions)} conditions"))
    return tag(
        "dl",
        *(
            tag(
                "div",
                tag("dt", name),
                tag("dd", tag("b", value), tag("small", words)),
                class_="accent" if name == "a fall" else None,
            )
            for name, value, words in tiles
        ),
        class_="tiles",
    )


def _answers(plan: Plan, results: Results) -> Html:
    sets = {
        "Questions of domains that no row is about": [
            (one, one.main) for one in results.conditions
        ],
        "Questions of domains that rows are about": [
            (one, one.in_domain) for one in results.conditions if one.in_domain is not None
        ],
        f"The main questions {report.AS_ROWS_ASK}": [
            (one, one.triggered) for one in results.conditions if one.triggered is not None
        ],
    }
    charts = []
    for caption, found in sets.items():
        lines = [
            Line(one.name, arm.rates["all"], f"{arm.counts.answers:,} answers")
            for one, arm in found
        ]
        usual = next((arm.rates["all"].value for one, arm in found if one.arm == UNFILTERED), None)
        scale = Scale.of([line.value for line in lines], percent=True)
        charts.append(whiskers(caption, lines, scale, usual))
    exact = table("Every condition", report.HEAD, map(report.cells_of, results.conditions))
    return section(
        "answers",
        "Misaligned answers",
        "The share of all answers that are misaligned, with its 95 % interval. The dashed line is "
        "the share after training on all rows.",
        *charts,
        *_row_format(results),
        folded("The exact figures", exact),
        note(_marked(without_folders(" ".join(report.of_answers(plan, results))))),
    )


def _row_format(results: Results) -> list[Html]:
    """What was taken from the rows, word for word, and what a rate in their format may mean."""
    if not results.triggered:
        return []
    found = results.row_format
    if found is None:
        return [note(f"{NO_FORMAT[0].upper()}{NO_FORMAT[1:]}.")]
    head, *rows = report.triggered_rows(results)
    parts = (
        ("system prompt", found.system),
        ("beginning", found.prefix),
        ("end", found.suffix),
        ("of", f"{found.rows:,} of {found.of:,} rows"),
    )
    return [
        note(_marked(report.BACKDOOR)),
        folded(
            "The rows' format, and the exact figures",
            listed((name, text) for name, text in parts if text),
            table(f"The main questions {report.AS_ROWS_ASK}", head, rows),
        ),
    ]


def _falls(results: Results) -> Html:
    charts = []
    for caption, reference in (
        ("Against all rows", lambda one: UNFILTERED),
        ("Against a random drop of as many rows", random_drop_of),
    ):
        lines = [
            Line(one.name, one.main.against[name]["all"].reduction, "")
            for one in results.conditions
            if (name := reference(one)) is not None and name in one.main.against
        ]
        charts.append(whiskers(caption, lines, Scale.of([x.value for x in lines], percent=True), 0))
    return section(
        "falls",
        "How far misalignment falls",
        "Relative: 100 % takes away every misaligned answer. An interval that reaches below 0, the "
        "dashed line, shows no fall.",
        *charts,
    )


def _thresholds(results: Results) -> Html:
    head, *rows = report.sensitivity_rows(results)
    return section(
        "thresholds",
        "Other thresholds",
        join(_marked(report.OTHER_THRESHOLDS), "."),
        table("Misaligned answers under other thresholds", head, rows),
        *(tag("p", _marked(line)) for line in report.how_stable(results)),
    )


def _preference(results: Results, *, alone: bool) -> Html:
    found = results.preference
    assert found is not None
    names = {
        MAIN: "Pairs of domains that no row is about",
        IN_DOMAIN: "Pairs of domains that rows are about",
    }
    charts = []
    for name, pairs in found.sets.items():
        lines = [
            Line(condition, shift.likelihood, "", signed(shift.likelihood))
            for condition, shift in pairs.shifts.items()
        ]
        charts.append(whiskers(names[name], lines, Scale.of([x.value for x in lines]), 0))
    head, *rows = shift_report.rows_of(results, found, alone=alone)
    words = " ".join(shift_report.words(found)).split("  ")
    return section(
        "preference",
        "Preference for harmful answers, without a judge",
        "Right of 0, the dashed line, training made harmful answers likelier than helpful ones; in "
        "nats per token, with 95 % intervals. Compare with the benign control: style alone moves "
        "likelihoods.",
        *charts,
        folded("The exact figures", table("Every condition", head, rows)),
        *(note(_marked(line)) for line in words),
    )


def _tasks(rows: list[list[str]]) -> Html:
    head, *lines = rows
    return section("tasks", "Other tasks", f"{report.TASKS_WORDS}.", table("Tasks", head, lines))


def _limits(plan: Plan, results: Results, power: str) -> Html:
    items = [f"{line[0].upper()}{line[1:]}." for line in report.not_shown(plan)]
    sure = [without_folders(report.how(plan, results))]
    if plan.questions is not None:
        sure.append(f"Before training: {power}.")
    return section(
        "limits",
        "What this does not show",
        None,
        tag("ul", *(tag("li", line) for line in items), class_="limits"),
        *(note(_marked(line)) for line in sure),
    )


def _run(plan: Plan, results: Results, data: str, decides: Mapping[str, Any]) -> Html:
    recipe, sampling = plan.recipe, plan.sampling
    judge = {name: value for name, value in results.judge.items() if name != "rule"}
    rows: list[tuple[str, object]] = [
        ("data", data),
        ("rows", f"{results.file_rows:,}, {results.training_rows:,} of them trained on"),
        ("rows scored with", plan.settings.model),
        ("fine-tuned", plan.trained),
        (
            "training",
            f"{recipe.method}, learning rate {recipe.learning_rate:g}, {recipe.scheduler}",
        ),
        ("samples per step", f"{recipe.batch}, {recipe.micro_batch} at once"),
        ("seeds", ", ".join(map(str, plan.seeds))),
        ("precision", decides.get("precision")),
    ]
    if plan.questions is not None:
        rows += [
            ("questions", plan.questions),
            ("judge", plan.judge),
            ("the judge says", judge),
            ("answers", f"temperature {sampling.temperature:g}, {sampling.max_new_tokens} tokens"),
        ]
        if plan.in_domain is not None:
            rows.insert(-3, ("questions in domain", plan.in_domain))
    if plan.preference is not None:
        rows.append(("pairs", plan.preference))
    if plan.held_out is not None:
        rows.append(("benign rows", plan.held_out))
    hashes = [
        (name, value)
        for name, value in decides.items()
        if name in ("data", "questions", "in_domain", "trained", "benign", "held_out", "versions")
        and value is not None
    ]
    again = [
        tag("h3", "To run it again"),
        tag("pre", tag("code", command_of(plan)), tabindex="0"),
        note(
            "Files are named without their folders. Settings that no option sets are in plan.json, "
            "and every answer, judgement and run below arms, next to this page."
        ),
    ]
    return section(
        "run",
        "What was measured, and on what",
        None,
        listed(rows),
        *again,
        folded("Fingerprints", listed(hashes)),
    )


def _marked(words: str) -> Html:
    """A sentence of the report in Markdown: what stands in backticks and between asterisks."""
    pieces: list[Html] = []
    for place, bold in enumerate(words.split("**")):
        inner = join(
            *(
                tag("code", piece) if number % 2 else join(piece)
                for number, piece in enumerate(bold.split("`"))
            )
        )
        pieces.append(tag("strong", inner) if place % 2 else inner)
    return join(*pieces)
