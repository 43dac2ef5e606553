"""Students, and what they are made of: vision transformers, and any network of timm with a map of tokens."""
