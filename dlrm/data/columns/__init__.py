"""Raw columns to typed columns, every bad value with its place."""
