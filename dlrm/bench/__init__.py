"""What this machine does beside what it could do."""
