"""What the tests of inference share with those of segmentation."""

from __future__ import annotations

from tests.segmentation.conftest import image, predictor

__all__ = ["image", "predictor"]
