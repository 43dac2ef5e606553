"""Naming schemes of other libraries, both directions of each in one file."""
