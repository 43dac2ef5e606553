"""How fast: this package beside its peers, in one process, turn by turn."""
