"""RILS: masked reconstruction in language semantic space (arXiv 2301.06958)."""
