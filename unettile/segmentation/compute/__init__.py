"""Computing the blocks of a run: strips in, finished blocks out."""
