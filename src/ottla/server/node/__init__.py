"""The composition root: which parts a node has, in which order they start and stop."""
