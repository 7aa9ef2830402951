"""The card and the recipe in a checkpoint: what others may read."""

from __future__ import annotations

from pathlib import Path

from unettile.models import find_model
from unettile.training.card import _portable
from unettile.training.recipe import NetworkPart, Recipe


def test_a_checkpoint_says_which_parameters_it_began_with_and_not_where_they_lay() -> None:
    """It is given to others; the recipe of a run, which may go on, keeps the place."""
    recipe = Recipe(network=NetworkPart(name="lite-unet", encoder_parameters="/on/this/machine/lite0.pth")).to_dict()
    assert _portable(recipe)["network"]["encoder_parameters"] == "lite0.pth"
    assert recipe["network"]["encoder_parameters"] == "/on/this/machine/lite0.pth"
    assert _portable(Recipe().to_dict()) == Recipe().to_dict()


def test_the_shipped_models_name_no_place() -> None:
    for path in Path(find_model("nuclei")).parent.glob("*.safetensors"):
        header = path.read_bytes()[: 2**16]
        assert not any(place in header for place in (b'"/', b"/home/", b"/root/", b"/tmp/")), path.name
