"""Exact answers in continuous time and textbook estimators, to check the day lattice against."""
