"""Batches in a reproducible order."""
