"""Parts of the methods that MVP is compared with."""
