"""Where is a model bad? Metrics, intervals and tests of parts of the evaluated rows."""
