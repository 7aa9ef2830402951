"""Inference: a network on windows of pixels, on a CPU or a GPU; it knows nothing of images, plans or files."""
