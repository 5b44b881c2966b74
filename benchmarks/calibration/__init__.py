"""How well the model of ``lazyio.planning.access`` tells what reading a window costs."""
