"""A GPU: windows queued in lanes, each computed by a captured graph."""
