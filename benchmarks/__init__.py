"""Benchmarks: speed, accuracy and the reference values, each one command that prints its numbers."""
