"""Writes the folder that the site is built from.

    PYTHONPATH=.:tools python -m pages.assemble build/pages

It holds docs/, the pages per command, the changelog, and every file outside docs/ that one of these
pages links to, so that the site stands alone. A link on a page of the repository names a file of
the repository; here it is made to name that file's place in the site.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from pages.commands import command_pages

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")
_NOT_A_PAGE = ("requirements.txt",)


def place_in_site(file: Path) -> Path:
    """Where a file of the repository, named from its top, is in the site."""
    if file.parts[0] == "docs":
        return Path(*file.parts[1:])
    return Path("changelog.md") if file == Path("CHANGELOG.md") else file


def with_links_of_the_site(markdown: str, page: Path) -> tuple[str, list[Path]]:
    """A page's text with its links to files as the site has them, and those files.

    `page` and the files are named from the top of the repository. What is not a file of the
    repository stays as it is, for the build to complain of.
    """
    found: list[Path] = []

    def moved(match: re.Match[str]) -> str:
        target = (ROOT / page).parent.joinpath(match[1]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            return match[1]
        found.append(target.relative_to(ROOT))
        return os.path.relpath(place_in_site(found[-1]), place_in_site(page).parent)

    return _LINK.sub(moved, markdown), found


def write_pages(folder: Path) -> None:
    """Write the site's pages and files into `folder`, in place of what it held."""
    shutil.rmtree(folder, ignore_errors=True)
    waiting = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*"))]
    waiting.append(Path("CHANGELOG.md"))
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file in seen or file.name in _NOT_A_PAGE or not (ROOT / file).is_file():
            continue
        seen.add(file)
        out = folder / place_in_site(file)
        out.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".md":
            text, linked = with_links_of_the_site((ROOT / file).read_text(encoding="utf-8"), file)
            out.write_text(text, encoding="utf-8")
            waiting += linked
        else:
            shutil.copyfile(ROOT / file, out)
    (folder / "commands").mkdir(exist_ok=True)
    for name, text in command_pages().items():
        (folder / "commands" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
