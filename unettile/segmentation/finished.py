"""Is an output that is there the one that a plan would make?"""

from __future__ import annotations

from pathlib import Path

from unettile.images import provenance
from unettile.segmentation.plan import Plan


def is_finished(output: Path, plan: Plan, zarr: str) -> bool:
    """Whether a file at `output` is the result of `plan`; False if there is nothing.

    Where the tile edge changes nothing, or on a GPU no more than rounding, another one does not matter.

    Args:
        zarr: the version of OME-Zarr that is to be written, if it is one.

    Raises:
        InputError: there is something else; says what differs.
    """
    wanted = plan.metadata()
    if plan.geometry.exact:
        del wanted["tile"]
    return provenance.is_finished(output, wanted, zarr=zarr)
