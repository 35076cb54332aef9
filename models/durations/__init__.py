"""Families of time to one exit of a stage, their compiled kernels and default priors."""
