"""Typed settings, the feature schema and the errors a user can cause. Free of torch."""
