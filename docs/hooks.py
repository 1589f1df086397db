"""Lets the site stand alone: what its pages link to outside of docs/ becomes part of it.

On a page of the repository `../benchmarks/results/x.json` is a file next to `docs/`. In the
site, where the content of `docs/` is the top, it is `benchmarks/results/x.json`; in the same
way pages of `examples/` find `../../docs/rows.md` one folder nearer.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")


def _place(page: str, link: str) -> Path | None:
    """The file of the repository that `link` on the page `page` (from ROOT) names, from ROOT."""
    target = (ROOT / page).parent.joinpath(link).resolve()
    return target.relative_to(ROOT) if target.is_relative_to(ROOT) else None


def _added(source: str) -> bool:
    """Whether the site's file `source` comes from outside docs/."""
    return not (ROOT / "docs" / source).exists() and (ROOT / source).is_file()


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to, and those that such pages link to in turn."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for link in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            place = _place(page, link)
            if place is None or place.parts[0] == "docs" or not (ROOT / place).is_file():
                continue
            name = place.as_posix()
            if files.get_file_from_path(name) is None:
                files.append(File(name, str(ROOT), config.site_dir, use_directory_urls=False))
                if place.suffix == ".md":
                    waiting.append(name)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Shorten the links that leave or enter docs/."""
    added = _added(page.file.src_uri)
    source = page.file.src_uri if added else f"docs/{page.file.src_uri}"

    def shorter(match: re.Match[str]) -> str:
        link = match[1]
        place = _place(source, link)
        if place is None or not (ROOT / place).exists():
            return link
        inside = place.parts[0] == "docs"
        if added and inside:
            return link.replace("docs/", "", 1)
        if not added and not inside:
            return link.removeprefix("../")
        return link

    return LINK.sub(shorter, markdown)
