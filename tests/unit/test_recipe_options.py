"""Options of ``train`` and ``finetune`` are the fields of their recipes: each has help, a type and its default."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from robustcodec import cli
from robustcodec.cli._recipe_options import recipe_options
from robustcodec.errors import UserError
from robustcodec.training.denoiser import DenoiserRecipe
from robustcodec.training.finetune_recipe import FinetuneRecipe
from robustcodec.training.recipe import Recipe
from robustcodec.training.settings import described

KINDS = {"train": Recipe, "finetune": FinetuneRecipe}


@pytest.mark.parametrize("kind", [Recipe, FinetuneRecipe, DenoiserRecipe])
def test_every_field_is_described_once(kind: type[Recipe]) -> None:
    settings = described(kind)
    assert [s.name for s in settings] == [f.name for f in fields(kind)]
    assert all(s.help.endswith(".") for s in settings)
    assert {s.name: s.default for s in settings} == {f.name: f.default for f in fields(kind)}


def test_another_default_in_a_subclass_keeps_the_description() -> None:
    steps = {kind: next(s for s in described(kind) if s.name == "steps") for kind in KINDS.values()}
    assert steps[Recipe].help == steps[FinetuneRecipe].help and steps[FinetuneRecipe].type is int
    assert (steps[Recipe].default, steps[FinetuneRecipe].default) == (20_000, 2000)


@pytest.mark.parametrize("name", KINDS)
def test_help_shows_every_setting_with_its_default_in_its_panel(name: str) -> None:
    text = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [name, "--help"]).output
    for setting in described(KINDS[name]):
        option = f"--{setting.name.replace('_', '-')} "
        shown = setting.name == "codec" or option in text
        assert shown == (setting.name not in KINDS[name].unused), setting.name
        assert setting.panel is None or f" {setting.panel} ─" in text
    assert "Decay of the weights' moving average. Default: " in text
    assert "Examples:" in text and f"robustcodec {name} " in text


def test_what_is_typed_reaches_the_command_and_what_is_not_does_not() -> None:
    found: dict[str, Any] = {}

    @recipe_options(Recipe)
    def command(*, given: dict[str, Any], device: str = "auto") -> None:
        found.update(given)

    app = typer.Typer()
    app.command()(command)
    words = ["jpeg", "--data", "a", "--data", "b", "--gan", "none", "--rho", "0", "--steps", "3", "--validate", "none"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert found == {"codec": "jpeg", "data": ["a", "b"], "gan": None, "rho": 0.0, "steps": 3, "validate": None}
    assert CliRunner().invoke(app, ["jpeg", "--metric", "l3"]).exit_code == 2


def test_a_setting_that_a_kind_of_training_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="rate_warmup would change nothing in the training of a.b; leave it out"):
        FinetuneRecipe("a.b", "c", ("d",), 0.1, rate_warmup=0.5)
