"""Suiting: whether a model takes an image, and what a user should know where the two do not quite fit."""

from __future__ import annotations

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError
from unettile.segmentation.plan import Plan
from unettile.segmentation.sizing import sizing_advice
from unettile.wording import counted

UNLIKE = 1.5
"""Pixels larger or smaller than the model's by this factor are worth a word."""


def check_channels(checkpoint: Checkpoint, channels: int, name: str, *, chosen: bool = False) -> None:
    """Refuse an image whose number of channels the model does not take.

    Args:
        chosen: the user chose these channels.

    Raises:
        InputError: names the option that resolves it.
    """
    need = checkpoint.in_channels
    if channels == need or (channels == 1 and need == 3 and checkpoint.grey_to_rgb):
        return
    takes = f"{need}, or 1 that it repeats" if checkpoint.grey_to_rgb and need == 3 else str(need)
    if channels > need or chosen:
        do = f"choose with --channel {','.join(str(number) for number in range(need))}"
    elif channels == 1:
        do = f"repeat it with --channel {','.join('0' * need)}, or use another --model"
    elif checkpoint.grey_to_rgb and need == 3:
        do = "choose one of them with --channel 0, which the model repeats, or use another --model"
    else:
        given = ",".join(str(min(number, channels - 1)) for number in range(need))
        do = f"say what it sees with --channel, one of them twice if need be, such as {given}, or use another --model"
    got = counted(channels, "channel")
    raise InputError(f"{name} has {got}{' chosen' if chosen else ''}, the model takes {takes}: {do}")


def advice(checkpoint: Checkpoint, plan: Plan, name: str) -> list[str]:
    """Return what to tell the user before the first block: of pixels that do not suit the model, and of the scale."""
    pixels = pixel_size_advice(checkpoint, plan, name)
    return [*([] if pixels is None else [pixels]), *sizing_advice(plan.sizing, checkpoint.objects_px)]


def pixel_size_advice(checkpoint: Checkpoint, plan: Plan, name: str) -> str | None:
    """Return what to tell the user where pixels are much larger or smaller than those that the model was trained on.

    None if they are not, or if either size is not known. Nothing is resampled unless the user says so.
    """
    need, got = checkpoint.pixel_size_um, plan.pixel_size_um
    if plan.sizing is not None and plan.sizing.scale != 1:
        return None
    if need is None or got is None or all(1 / UNLIKE < size / need < UNLIKE for size in got):
        return None
    size = f"{got[0]:.3g}" if got[0] == got[1] else f"{got[0]:.3g} × {got[1]:.3g}"
    return (
        f"{name} has pixels of {size} µm, the model was trained at {need:.3g} µm:"
        f" it may see its objects too {'small' if max(got) > need else 'large'}; --mpp {need:g} brings them to its size"
    )
