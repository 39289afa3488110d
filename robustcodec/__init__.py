"""robustcodec."""
