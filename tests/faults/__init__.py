"""Runs that are killed, cut and fed bad files on purpose, to find out whether they survive it."""

from .phase_hook import PhaseHook

__all__ = ['PhaseHook']
