"""Checkpoints: complete or absent, never half, and nothing pickled.

A checkpoint is a folder ``step_000000500`` with the dense part and the tables in
safetensors, rows in global coordinates, and ``state.json``, which names every file with
its checksum. It is written aside, flushed to disk and renamed. Its bytes do not depend
on how many processes wrote it, or on how the tables lay on them.
"""
