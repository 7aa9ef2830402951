"""Compiled loops over the pixels of a sample, on one thread: workers bring their own parallelism."""

from __future__ import annotations

import numpy as np

from unettile.compiled import compiled


@compiled
def resample(image, y, x, low, gain, least, most, out):  # type: ignore[no-untyped-def]
    """Fill out (C, n, m) with bilinear samples of (image - low) · gain, clipped to least … most, of image (H, W, C)."""
    height, width, channels = image.shape
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            top, left = int(y[i, j]), int(x[i, j])
            down, right = y[i, j] - np.float32(top), x[i, j] - np.float32(left)
            below, beside = min(top + 1, height - 1), min(left + 1, width - 1)
            for c in range(channels):
                a = min(max((np.float32(image[top, left, c]) - low[c]) * gain[c], least), most)
                b = min(max((np.float32(image[top, beside, c]) - low[c]) * gain[c], least), most)
                d = min(max((np.float32(image[below, left, c]) - low[c]) * gain[c], least), most)
                e = min(max((np.float32(image[below, beside, c]) - low[c]) * gain[c], least), most)
                upper = a + (b - a) * right
                out[c, i, j] = upper + (d + (e - d) * right - upper) * down


@compiled
def nearest(labels, y, x, out):  # type: ignore[no-untyped-def]
    """Fill out (n, m) with the labels (H, W) nearest to the coordinates."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            out[i, j] = labels[int(y[i, j] + np.float32(0.5)), int(x[i, j] + np.float32(0.5))]


@compiled
def is_coloured(image, tolerance):  # type: ignore[no-untyped-def]
    """Whether the channels of an image (C, n, m) differ by more than `tolerance` anywhere."""
    channels, height, width = image.shape
    for i in range(height):
        for j in range(width):
            for c in range(1, channels):
                if abs(image[c, i, j] - image[0, i, j]) > tolerance:
                    return True
    return False


@compiled
def bend(image, gain, shift, power, out):  # type: ignore[no-untyped-def]
    """Fill out (C, n, m) with v = image · gain + shift, then sign(v) · |v|^power; return the mean."""
    channels, height, width = image.shape
    total = 0.0
    for c in range(channels):
        for i in range(height):
            row = 0.0
            for j in range(width):
                value = image[c, i, j] * gain[c] + shift[c]
                if power != np.float32(1):
                    bent = np.exp(power * np.log(max(abs(value), np.float32(1e-12))))
                    value = bent if value > 0 else -bent
                out[c, i, j] = value
                row += value
            total += row
    return total / (channels * height * width)


@compiled
def blur(image, taps, out):  # type: ignore[no-untyped-def]
    """Fill out (C, n, m) with the image filtered by `taps` along both axes, mirrored at its edges."""
    channels, height, width = image.shape
    radius = len(taps) // 2
    line = np.empty(width + 2 * radius, np.float32)
    rows = np.empty((height, width), np.float32)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                line[radius + j] = image[c, i, j]
            for k in range(1, radius + 1):
                line[radius - k] = image[c, i, k]
                line[radius + width - 1 + k] = image[c, i, width - 1 - k]
            rows[i] = taps[0] * line[:width]
            for k in range(1, len(taps)):
                for j in range(width):
                    rows[i, j] += taps[k] * line[j + k]
        for i in range(height):
            for j in range(width):
                out[c, i, j] = 0
            for k in range(-radius, radius + 1):
                y = abs(i + k)
                if y >= height:
                    y = 2 * (height - 1) - y
                for j in range(width):
                    out[c, i, j] += taps[radius + k] * rows[y, j]
