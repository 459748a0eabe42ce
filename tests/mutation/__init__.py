"""Mutation testing of the code that a verdict rests on: `make mutation`. Not a part of `make test`; it takes minutes."""
