"""Experiments that anyone can rerun."""
