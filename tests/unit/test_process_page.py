"""docs/howto/your-codec-process.md: its messages are those that are sent. ``.ci/run`` runs its commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from robustcodec.zoo._wire import Description, pack

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "howto" / "your-codec-process.md").read_text(encoding="utf-8")


def test_the_example_of_a_request_is_what_is_sent() -> None:
    request, answer = (json.loads(text) for text in re.findall(r"^\{.*?\]\}$", PAGE, re.MULTILINE | re.DOTALL))
    head = {key: request[key] for key in ("id", "op", "rounding", "seed")}
    line, _, raw = pack(head, {"x": np.zeros(request["arrays"][0]["shape"], np.float32)}).partition(b"\n")
    assert json.loads(line) == request and len(raw) == request["arrays"][0]["bytes"]
    assert answer["id"] == request["id"] and answer["robustcodec"] == request["robustcodec"]


def test_the_page_names_every_field_of_a_description() -> None:
    told = PAGE.split("`describe` answers with")[1].split("\n\n")[0]
    assert {name for name in Description.__annotations__ if f"`{name}`" not in told} == set()
