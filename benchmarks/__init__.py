"""Benchmarks: what is measured against peers, and against the ceiling of the machine."""
