"""Click metrics: numpy alone, float64, exact; each argues for its definition."""
