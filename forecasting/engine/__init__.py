"""The simulator's machinery: random streams, renewal equations and samplers over plain arrays."""
