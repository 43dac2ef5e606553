"""From bytes to a training sample."""
