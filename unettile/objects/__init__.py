"""Objects of a mask: numbered, split, measured and outlined, whatever the size of the image."""
