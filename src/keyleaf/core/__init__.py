"""Value types, the error tree, time and randomness: what every room shares. Imports nothing in-house."""
