"""Measurements: each figure beside its ceiling or peer in the same run, written to bench/results/."""
