"""DINO and iBOT: how the embedded vision-only teacher is trained."""
