"""Building blocks: flat arguments, tensors in, tensors out."""
