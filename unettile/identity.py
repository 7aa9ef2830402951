"""Identity: what a mask, and the plan of a run, say of the model that made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from unettile.typed import Name, Sha256


@dataclass(frozen=True)
class ModelIdentity:
    """A model's network and file.

    Args:
        network: its name in the registry.
        sha256: of the file; empty before it is saved.
        members: SHA-256 of the files whose probabilities are averaged; unset for one file, whose own is `sha256`.
        tta: in which ways windows are turned over, too; unset for none.
        largest_difference: of a probability, between windows of two sizes; None if it was not measured, and unset
            where tiles cannot disagree.
    """

    network: Name
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")]
    largest_difference: Annotated[float, Meta(ge=0, le=1)] | UnsetType | None = UNSET
    members: Annotated[tuple[Sha256, ...], Meta(max_length=1000)] | UnsetType = UNSET
    tta: Annotated[str, Meta(pattern="^flips$")] | UnsetType = UNSET

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        values = {name: value for name, value in vars(self).items() if value is not UNSET}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
