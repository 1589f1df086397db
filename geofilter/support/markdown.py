"""Text from elsewhere in a Markdown page: shown, and never more than text."""

from geofilter.support.display import escape


def cell(value: object, limit: int = 120) -> str:
    """The value as nothing but text, in a cell of a table or a sentence; longer ones are cut."""
    text = escape(value if isinstance(value, str) else str(value), limit=limit)
    return "".join(
        character if character.isalnum() or character in " -/.,:_" else f"&#{ord(character)};"
        for character in text
    ).replace("://", "&#58;//")
