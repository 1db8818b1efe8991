"""Measures the project against what bounds it: ratios within one run, never seconds alone."""
