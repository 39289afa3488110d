"""Who does the work of a grid: units, one scheduler that orders them, and executors that run them."""
