"""Is a mask that is there the one that would be made? Its metadata say all that decides a pixel."""

from __future__ import annotations

import json
from pathlib import Path

from unettile.errors import InputError
from unettile.images.record import read_metadata
from unettile.segmentation.plan import Plan


def is_finished(output: Path, plan: Plan) -> bool:
    """Whether a file at `output` is the result of `plan`; False if there is nothing.

    Outputs appear under their names only when whole, so that the metadata vouch for the pixels. Where the tile edge
    changes nothing, or on a GPU no more than rounding, another one does not matter.

    Raises:
        InputError: there is something else; says what differs.
    """
    if not output.exists():
        return False
    found, wanted = read_metadata(output), json.loads(json.dumps(plan.metadata()))
    if not found:
        raise InputError(f"{output} exists and is no mask of unettile: choose another -o, or give --overwrite")
    if plan.geometry.exact:
        del wanted["tile"]
    different = [key for key, value in wanted.items() if found.get(key) != value]
    if different:
        what = ", ".join(different)
        raise InputError(f"{output} was made otherwise ({what} differ): choose another -o, or give --overwrite")
    return True
