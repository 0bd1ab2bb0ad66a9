"""Embedding tables: from the schema's features to pooled vectors and their updates."""
