"""Models whose image tokens text can name."""
