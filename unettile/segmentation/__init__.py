"""Segmentation: a checkpoint and an image in; a mask out, block by block through a run directory."""
