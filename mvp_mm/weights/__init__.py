"""Files of tensors: read them without running code from them, name and fit what they hold, fill modules."""
