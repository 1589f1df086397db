"""Engines run a scorer over a file of rows: here, on one machine."""
