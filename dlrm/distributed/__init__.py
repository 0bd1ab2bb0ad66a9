"""Processes of one job: who am I, and how many are we."""
