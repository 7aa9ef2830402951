"""Images: slides read by region, mirrored at their edges, scaled; masks written as tiled files."""
