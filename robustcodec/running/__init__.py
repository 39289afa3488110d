"""How a grid becomes results."""
