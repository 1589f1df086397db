"""What every page has in common: a file that opens from a disk and asks for nothing.

Its policy lets it fetch nothing, the style is its own, and so is the script, where it has one.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files

from geofilter.report.html import Html, bdi, data, script, tag
from geofilter.report.places import without_folders

# Nothing may be fetched, run, sent or framed; the style is the page's own.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
_HEAD = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    '<meta name="color-scheme" content="light dark">\n'
    '<meta name="referrer" content="no-referrer">\n'
    # Else a browser asks the server for one.
    '<link rel="icon" href="data:,">\n'
)


# Characters of a value that are shown.
_VALUE = 120
_ABSENT = "not recorded"


def policy_for(source: str | None) -> str:
    """`POLICY`, and the script `source` may run, known by its hash.

    No other may, and this one may turn no text into markup or code.
    """
    if source is None:
        return POLICY
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    own = f"script-src 'sha256-{digest}'"
    return f"{POLICY}; {own}; require-trusted-types-for 'script'; trusted-types 'none'"


def document(
    title: Html,
    first: str,
    top: Html,
    body: Iterable[Html],
    *,
    from_the: str,
    source: str | None = None,
    data_of_it: object = None,
) -> Iterator[str]:
    """A page, piece by piece: `top`, then the sections of `body`.

    `title` is the browser's, `first` the name of the section to which the keyboard can skip.
    `from_the`: where the foreign text is from. `source` is the page's script, and `data_of_it`
    what it finds in the block `page-data`.
    """
    yield _HEAD.format(policy=policy_for(source))
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
    yield "\n"
    if source is not None:
        yield data("page-data", data_of_it)
        yield script(source)
    yield "</body>\n</html>\n"


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
