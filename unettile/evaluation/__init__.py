"""Scoring predicted masks against true ones."""
