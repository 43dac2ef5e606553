"""Write, read and resume training checkpoints."""
