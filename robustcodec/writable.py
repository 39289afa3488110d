"""Text that files can hold. Paths can be of bytes that are no UTF-8, which Python has as halves of letters; names that
are made of them are in streams, tables and checksums, which are UTF-8.
"""

from __future__ import annotations


def is_writable(text: str) -> bool:
    """True if ``text`` can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
