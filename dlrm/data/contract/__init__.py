"""The data contract: what training rows were like, and how unlike new rows are."""
