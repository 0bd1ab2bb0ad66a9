"""How prepared rows lie on disk."""
