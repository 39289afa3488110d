"""The functions that ``import robustcodec`` gives; each imports what it needs when it is called."""
