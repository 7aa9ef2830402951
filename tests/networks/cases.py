"""Every network as narrow as its laws allow: (name, what its config changes), by a name for the test."""

from __future__ import annotations

from typing import Any

Case = tuple[str, dict[str, Any]]

NARROW = [2, 3, 4, 5, 6]
CASES: dict[str, Case] = {
    "unet": ("unet", {"widths": NARROW}),
    "unet, batch norm, colour, 3 classes": (
        "unet",
        {"in_channels": 3, "classes": 3, "widths": [2, 2, 3, 3, 4], "batch_norm": True, "dropout": 0.5},
    ),
    "unet, depth 2": ("unet", {"in_channels": 3, "widths": [3, 3, 3]}),
    "unet, 3×3 head": ("unet", {"widths": [2, 3, 4], "head_kernel": 3}),
    "unet upsample": ("unet", {"preset": "upsample", "widths": NARROW}),
    "unet small": ("unet", {"preset": "small", "widths": NARROW}),
    "unet bn": ("unet", {"preset": "bn", "widths": NARROW}),
    "unet tiny": ("unet", {"preset": "tiny", "widths": NARROW}),
    "unet strided": ("unet", {"preset": "strided", "widths": NARROW}),
    "fcn32s": ("fcn32s", {"classes": 3, "widths": [2, 3, 3, 4, 4], "dense": 6}),
    "fcn16s": ("fcn16s", {"classes": 3, "widths": [2, 3, 3, 4, 4], "dense": 6}),
    "fcn8s": ("fcn8s", {"classes": 2, "widths": [2, 3, 3, 4, 4], "dense": 6, "one_logit": True}),
    "resnet34-unet": ("resnet34-unet", {"widths": [8, 8, 8, 12]}),
    "lite-unet": ("lite-unet", {"widths": [4, 4, 4, 6], "classes": 3}),
    "lite-unet, to 1/4, grey, one logit": ("lite-unet", {"in_channels": 1, "widths": [3, 4], "one_logit": True}),
    # 8 channels: with 4, torch 2.13 writes past its memory in the backward pass on a CPU (channels last, strided 1×1)
    "deeplabv3+": (
        "deeplabv3+",
        {"classes": 3, "widths": [8] * 4, "blocks": [1] * 4, "rates": [1, 2], "width": 6},
    ),
    "deeplabv3+, to 1/8, grey, one logit": (
        "deeplabv3+",
        {
            "in_channels": 1,
            "widths": [8] * 4,
            "blocks": [1] * 4,
            "output_stride": 8,
            "rates": [2, 3],
            "width": 4,
            "separable": False,
            "one_logit": True,
        },
    ),
    "deeplabv3+, image pooling": (
        "deeplabv3+",
        {"widths": [8] * 4, "blocks": [1] * 4, "rates": [1, 2], "width": 4, "image_pooling": True},
    ),
    "unet++": ("unet++", {"widths": NARROW}),
    "unet++, pruned to 2": ("unet++", {"widths": NARROW, "prune": 2, "classes": 3}),
    "unet++, nearest, one head": ("unet++", {"widths": [2, 3, 4], "up": "nearest", "deep_supervision": False}),
    "u2net": ("u2net", {"mids": [2] * 6, "outs": [3] * 6, "decoder_mids": [2] * 5, "decoder_outs": [2] * 5}),
    "u2netp": ("u2netp", {"mids": [2] * 6, "outs": [2] * 6, "decoder_mids": [2] * 5, "decoder_outs": [3] * 5}),
}
