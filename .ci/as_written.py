"""Writes the files that a document shows into a folder and prints its commands: as_written.py DOCUMENT FOLDER.

A file may be one that another document beside it shows: ``<!-- file a/b.py: codec of README.md -->``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

document, folder = map(Path, sys.argv[1:])
text = document.read_text(encoding="utf-8")
files = re.findall(r"<!-- file (\S+) -->\n```\w+\n(.*?)```\n", text, re.DOTALL)
for name, block, other in re.findall(r"<!-- file (\S+): (\w+) of (\S+) -->", text):
    shown = (document.parent / other).read_text(encoding="utf-8")
    files += [(name, code) for code in re.findall(rf"<!-- {block} -->\n```\w+\n(.*?)```\n", shown, re.DOTALL)]
for name, content in files:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
for commands in re.findall(r"<!-- commands -->\n```sh\n(.*?)```\n", text, re.DOTALL):
    sys.stdout.write(commands)
