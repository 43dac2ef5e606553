"""What one GPU must show of this package: a stage a file, and the command that runs them."""
