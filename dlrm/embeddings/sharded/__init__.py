"""Embedding tables that lie on several processes, trained as one process would."""
