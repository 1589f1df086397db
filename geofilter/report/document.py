"""What every page has in common: a file that opens from a disk, holds no script, asks for nothing.

Its policy lets it fetch nothing, and the style is its own.
"""

import json
from collections.abc import Iterable, Iterator
from importlib.resources import files

from geofilter.report.html import Html, bdi, tag
from geofilter.report.places import without_folders

# Nothing may be fetched, run, sent or framed; the style is the page's own.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_HEAD = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    '<meta name="referrer" content="no-referrer">\n'
    # Else a browser asks the server for one.
    '<link rel="icon" href="data:,">\n'
)


# Characters of a value that are shown.
_VALUE = 120
_ABSENT = "not recorded"


def document(
    title: Html, first: str, top: Html, body: Iterable[Html], *, from_the: str
) -> Iterator[str]:
    """A page, piece by piece: `top`, then the sections of `body`.

    `title` is the browser's, `first` the name of the section to which the keyboard can skip.
    `from_the`: where the foreign text is from.
    """
    yield _HEAD
    yield f"<title>{title}</title>\n"
    yield f"<style>\n{files('geofilter.report').joinpath('page.css').read_text('utf-8')}</style>\n"
    yield "</head>\n<body>\n"
    yield tag("a", "Skip to the report", href=f"#{first}", class_="skip")
    yield top
    yield "<main>\n"
    yield from body
    yield "</main>\n"
    yield tag(
        "footer",
        tag(
            "p",
            f"Made by geofilter. Everything from the {from_the} is shown as text: hidden and "
            "control characters are \\u escapes.",
        ),
    )
    yield "\n</body>\n</html>\n"


def listed(rows: Iterable[tuple[str, object]]) -> Html:
    """Names with their values, which may be foreign, without the folders that they name."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", bdi(_plain(value), _VALUE)))
            for name, value in rows
        ),
    )


def _plain(value: object) -> str:
    if value is None or value == "":
        return _ABSENT
    return without_folders(value if isinstance(value, str) else json.dumps(value, default=str))
