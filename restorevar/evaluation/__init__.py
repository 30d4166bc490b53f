"""How good a model is, in numbers that name their protocol."""
