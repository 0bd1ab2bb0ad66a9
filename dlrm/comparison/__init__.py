"""Is one model better than another on the same rows? Files in, a verdict out."""
