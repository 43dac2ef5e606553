"""Methods compared on small photographs."""
