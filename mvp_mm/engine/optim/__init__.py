"""Optimizer wrappers, parameter groups and the total batch."""
