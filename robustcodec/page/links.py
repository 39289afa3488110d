"""Where a reader finds what an entry is made of: papers, and weights that ship, in the repository."""

from __future__ import annotations

from collections.abc import Iterator

from robustcodec import registry, weights
from robustcodec.errors import PluginError, UserError
from robustcodec.page.view import Link
from robustcodec.spec import Spec
from robustcodec.studies import citing

NAMES = {"codecs": "codec", "defenses": "defense"}


def links(codec: str, defense: str) -> tuple[Link, ...]:
    """Of a codec behind a defense, as their plugins and cards state it; nothing of what is not installed here, and
    nothing of names that would run code.
    """
    return (*_papers("codecs", codec), *_papers("defenses", defense), *_weights(codec))


def _papers(kind: str, text: str) -> Iterator[Link]:
    if text == "none":
        return
    plugins = registry.KINDS[kind]
    try:
        for spec in plugins.layers(text):
            if plugins.runs_code(spec.name):
                continue
            card = _card(spec) if kind == "codecs" else {}
            stated = [card["paper"]] if card.get("paper") else [each.stated for each in citing.papers(kind, spec.name)]
            yield from (Link(f"paper of the {NAMES[kind]}", each, _address(each)) for each in stated)
    except (UserError, PluginError):
        return


def _weights(codec: str) -> Iterator[Link]:
    try:
        spec = Spec.parse(codec, here=False)
    except UserError:
        return
    if _card(spec):
        home = citing.home()
        for what, path in (("weights", "weights/{}.safetensors"), ("card of the weights", "cards/{}.toml")):
            place = f"zoo/{path.format(f'{spec.name}.{spec.tag}')}"
            yield Link(what, place, f"{home}/blob/main/{place}" if home else "")


def _card(spec: Spec) -> dict[str, str]:
    """Of weights that ship; empty for all others."""
    if spec.tag is None or spec.tag not in weights.bundled_tags(spec.name):
        return {}
    return weights.read_card(weights.find(spec.name, spec.tag))


def _address(stated: str) -> str:
    """Of a paper that is stated by its address, which a note may follow."""
    first = stated.partition(" ")[0]
    return first if first.startswith("https://") else ""
