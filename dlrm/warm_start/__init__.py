"""What a new run starts from: an old run's tables and parameters, given vectors."""
