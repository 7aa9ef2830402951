"""A run: the directory that keeps what it has done, and what is told of it."""
