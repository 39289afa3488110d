"""Writes the files that a document shows into a folder and prints its commands: as_written.py DOCUMENT FOLDER."""

from __future__ import annotations

import re
import sys
from pathlib import Path

text, folder = Path(sys.argv[1]).read_text(encoding="utf-8"), Path(sys.argv[2])
for name, content in re.findall(r"<!-- file (\S+) -->\n```\w+\n(.*?)```\n", text, re.DOTALL):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
for commands in re.findall(r"<!-- commands -->\n```sh\n(.*?)```\n", text, re.DOTALL):
    sys.stdout.write(commands)
