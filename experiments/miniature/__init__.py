"""The paper's comparison in miniature, on the embedded scenes."""
