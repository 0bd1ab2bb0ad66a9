"""From raw rows to a prepared dataset, whole or not at all."""
