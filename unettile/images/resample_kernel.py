"""The sums at the heart of resampling, compiled: weighted means along the rows and the columns of a region.

Every product and every sum is rounded by itself, in a fixed order (nothing fused, nothing reordered): what a pixel
becomes does not depend on where in a region it lies.
"""

from __future__ import annotations

from unettile.compiled import compiled


@compiled
def mean_rows(pixels, first, weights, out):  # type: ignore[no-untyped-def]
    """Write the weighted sums of rows.

    Args:
        pixels: (h, n) float32 or float64.
        first: (k,) int64, the row that the first weight belongs to; it may lie outside, where weights are 0.
        weights: (k, taps), of the pixels' type.
        out: (k, n), of the pixels' type, overwritten.
    """
    height, width = pixels.shape
    for row in range(out.shape[0]):
        out[row, :] = 0
        for tap in range(weights.shape[1]):
            source = first[row] + tap
            weight = weights[row, tap]
            if 0 <= source < height and weight != 0:
                for column in range(width):
                    out[row, column] += weight * pixels[source, column]


@compiled
def mean_columns(pixels, first, weights, out):  # type: ignore[no-untyped-def]
    """Write the weighted sums of columns: as `mean_rows`, for pixels (h, w, C) and out (h, k, C)."""
    height, width, channels = pixels.shape
    for row in range(height):
        for column in range(out.shape[1]):
            out[row, column, :] = 0
            for tap in range(weights.shape[1]):
                source = first[column] + tap
                weight = weights[column, tap]
                if 0 <= source < width and weight != 0:
                    for channel in range(channels):
                        out[row, column, channel] += weight * pixels[row, source, channel]
