"""What is fitted on the training rows, and applied to all."""
