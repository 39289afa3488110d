"""Recipes as files, and as the command lines that cards record.

A recipe file is TOML with the names of a recipe's fields; options of the command line come before it. ``[[variant]]``
tables, each with a ``name``, make one training per variant: an ablation. With ``seeds`` each is trained with each seed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from robustcodec.errors import UserError
from robustcodec.training.ablation import seeded
from robustcodec.training.finetune_recipe import FinetuneRecipe
from robustcodec.training.recipe import Recipe

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class RecipeFile(Generic[R]):
    """Settings of a recipe of one ``kind``, some or all, and the variants of an ablation."""

    settings: dict[str, Any]
    variants: tuple[dict[str, Any], ...] = ()
    seeds: tuple[int, ...] = ()
    kind: type[R] = Recipe  # type: ignore[assignment]

    @classmethod
    def read(cls, name: str, kind: type[R] = Recipe) -> RecipeFile[R]:  # type: ignore[assignment]
        """A TOML file by path, or one that ships by name; raises :class:`UserError` for anything else."""
        shipped = files("robustcodec.zoo") / "recipes"
        path = Path(name)
        if path.suffix != ".toml":
            path = Path(str(shipped / f"{name}.toml"))
        if not path.is_file():
            known = ", ".join(sorted(Path(e.name).stem for e in shipped.iterdir()))
            raise UserError(f"no recipe {name!r}; give the path of a .toml file or one of {known}")
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not a TOML file: {error}") from None
        variants, seeds = tuple(table.pop("variant", ())), tuple(table.pop("seeds", ()))
        for part in (table, *variants):
            if unknown := set(part) - {f.name for f in fields(kind)}:
                finetune = unknown <= {f.name for f in fields(FinetuneRecipe)}
                raise UserError(
                    f"{path} sets {', '.join(sorted(unknown))}, which no recipe has; "
                    f"expected {', '.join(f.name for f in fields(kind))}"
                    + (" (robustcodec finetune takes this recipe)" if finetune else "")
                )
        if any("name" not in v for v in variants):
            raise UserError(f"{path} has a [[variant]] without a name")
        if len(set(seeds)) < len(seeds) or not all(type(seed) is int for seed in seeds):
            raise UserError(f"{path}: seeds = {[*seeds]}; expected different whole numbers, such as [0, 1, 2]")
        return cls(table, variants, seeds, kind)

    def recipes(self, given: dict[str, Any]) -> list[R]:
        """One recipe per variant and seed (or the only one); ``given`` comes before the file. The names of variant and
        seed are appended.

        Raises :class:`UserError` for settings that are still missing or of the wrong kind.
        """
        settings = {**self.settings, **given}
        missing = [f.name for f in fields(self.kind) if f.default is MISSING and f.name not in settings]
        if missing:
            raise UserError(
                f"the recipe lacks {', '.join(missing)}; give --{' --'.join(missing)} or put it in the file"
            )
        settings["data"] = tuple(settings["data"])
        base = self.kind(**settings)
        variants = [replace(base, **{**v, "name": f"{base.name}-{v['name']}"}) for v in self.variants] or [base]
        if not self.seeds or "seed" in given:
            return variants
        return [replace(each, name=each.name + seeded(s), seed=s) for each in variants for s in self.seeds]


def command(recipe: Recipe, inherited: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The command line that trains ``recipe``; ``inherited``: settings that its codec's card gives to a finetune."""
    words = [f"robustcodec {'finetune' if isinstance(recipe, FinetuneRecipe) else 'train'}", recipe.codec]
    usual = {f.name: f.default for f in fields(recipe)} | dict(inherited)
    for key, value in asdict(recipe).items():
        if key == "codec" or value == usual[key]:
            continue
        for item in value if isinstance(value, (list, tuple)) else (value,):
            words.append(f"--{key.replace('_', '-')} {'none' if item is None else item}")
    return " ".join(words)
