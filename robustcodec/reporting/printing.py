"""Text from users and files as a terminal, a page or a table shows it letter by letter, whatever it is made of."""

from __future__ import annotations

import re

# what moves a cursor, ends a line elsewhere, turns the order of letters around, or is half of one
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` with control characters (all but tabs and ends of lines) as Python would write them: ``\\x1b``."""
    if text.isprintable():
        return text
    return _UNSEEN.sub(lambda match: repr(match[0])[1:-1], text)
