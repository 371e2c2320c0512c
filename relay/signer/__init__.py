"""Signatures of one event loop, made together where that is cheaper."""
