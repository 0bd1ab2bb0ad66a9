"""One pass over a split: predictions, metrics and a report that can be mailed."""
