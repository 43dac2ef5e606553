"""Students: vision transformers that are pre-trained."""
