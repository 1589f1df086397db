"""Colour and tables that fit are for a terminal only; a narrower table lacks nothing."""

import pytest

from geofilter.cli.main import main
from geofilter.cli.output import note, print_markdown, print_table
from geofilter.support.display import escape

HEAD = ["name", "AUROC, 95 %", "what it is"]
ROWS = [
    ["smollm2-135m", "0.77 [0.72, 0.82]", "A small chat model that works offline, for real text."],
    ["organism", "-", "The bundled model organism of a made-up world."],
]
PLAIN = (
    "name          AUROC, 95 %        what it is\n"
    "smollm2-135m  0.77 [0.72, 0.82]  A small chat model that works offline, for real text.\n"
    "organism      -                  The bundled model organism of a made-up world.\n"
)
BOLD, RED, YELLOW, END = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Make both outputs a terminal of so many columns."""

    def be(columns: int) -> None:
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))
        for stream in ("stdout", "stderr"):
            monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)

    return be


def test_a_table_that_has_room_is_the_plain_one_with_a_bold_head(terminal, capsys):
    terminal(90)
    print_table(HEAD, ROWS)
    head, *rows = PLAIN.splitlines()
    assert capsys.readouterr().out.splitlines() == [f"{BOLD}{head}{END}", *rows]


@pytest.mark.parametrize("columns", [45, 60, 75])
def test_the_widest_column_is_wrapped_between_words_until_the_table_fits(columns, terminal, capsys):
    terminal(columns)
    print_table(HEAD, ROWS)
    shown = capsys.readouterr().out.replace(BOLD, "").replace(END, "")
    lines = shown.splitlines()
    assert max(map(len, lines)) <= columns
    assert all(word in shown for word in " ".join(map(" ".join, (HEAD, *ROWS))).split())
    at = lines[0].index("what")
    whole = " ".join(" ".join(line[at:].strip() for line in lines).split())
    assert whole == " ".join(row[-1] for row in (HEAD, *ROWS))


def test_where_words_would_have_to_be_broken_rows_become_lists(terminal, capsys):
    terminal(28)
    print_table(HEAD, ROWS)
    assert capsys.readouterr().out.splitlines() == [
        f"{BOLD}smollm2-135m{END}",
        "  AUROC, 95 %: 0.77 [0.72,",
        "    0.82]",
        "  what it is: A small chat",
        "    model that works",
        "    offline, for real text.",
        f"{BOLD}organism{END}",
        "  AUROC, 95 %: -",
        "  what it is: The bundled",
        "    model organism of a",
        "    made-up world.",
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), (None, None)], ids=str
)
def test_what_is_piped_or_asked_to_be_plain_is_plain_and_whole(
    name, value, terminal, capsys, monkeypatch
):
    terminal(30)
    if name is None:
        monkeypatch.setattr("sys.stdout.isatty", lambda: False)
        monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    else:
        monkeypatch.setenv(name, value)
    print_table(HEAD, ROWS)
    note("warning: look")
    assert main(["scroe"]) == 2
    shown = capsys.readouterr()
    assert shown.out == PLAIN
    assert shown.err.startswith("geofilter: warning: look\ngeofilter: error: No such command")
    assert "\x1b" not in shown.err


def test_each_output_is_looked_at_by_itself(terminal, capsys, monkeypatch):
    terminal(60)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    print_table(HEAD, ROWS)
    note("warning: look")
    assert main(["scroe"]) == 2
    shown = capsys.readouterr()
    assert shown.out == PLAIN
    for said in (f"{YELLOW}warning:{END} look", f"{RED}error:{END} No such command"):
        assert f"geofilter: {said}" in shown.err


def test_a_report_s_tables_fit_and_its_words_stay(terminal, capsys, monkeypatch):
    text = (
        "# Does it help?\n\nYes.\n\n| condition | rows |\n| --- | --- |\n"
        "| unfiltered |  |\n| filter | 20 |\n\nEnd.\n"
    )
    terminal(60)
    print_markdown(text)
    assert capsys.readouterr().out == (
        f"{BOLD}# Does it help?{END}\n\nYes.\n\n{BOLD}condition   rows{END}\nunfiltered\n"
        "filter      20\n\nEnd.\n\n"
    )
    monkeypatch.setenv("NO_COLOR", "1")
    print_markdown(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_a_cell_of_blanks_or_without_a_break_is_shown_whole(terminal, capsys):
    terminal(40)
    print_table(["token", "name"], [[" ", "z" * 60], [escape("\x1b[2J"), "a b " * 20]])
    shown = capsys.readouterr().out
    assert shown.count("z") == 60
    assert r"\x1b[2J" in shown
    bare = shown.replace(BOLD, "").replace(END, "")
    assert max(map(len, bare.splitlines())) <= 40
