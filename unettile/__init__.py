"""unettile: tiled segmentation of large images whose mask is a function of the image and the model alone."""

__version__ = "0.1.0"
