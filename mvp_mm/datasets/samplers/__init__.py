"""The order of samples, and the seed of each."""
