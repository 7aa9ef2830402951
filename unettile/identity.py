"""Identity: what a mask, and the plan of a run, say of the model that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from unettile.typed import Name


@dataclass(frozen=True)
class ModelIdentity:
    """A model's network and file.

    Args:
        network: its name in the registry.
        sha256: of the file; empty before it is saved.
        largest_difference: of a probability, between windows of two sizes; None if it was not measured, and unset
            where tiles cannot disagree.
    """

    network: Name
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
    largest_difference: Annotated[float, Meta(ge=0, le=1)] | UnsetType | None = UNSET

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: value for name, value in vars(self).items() if value is not UNSET}
