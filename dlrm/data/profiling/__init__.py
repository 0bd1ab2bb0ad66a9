"""A look at a table that nobody has described yet."""
