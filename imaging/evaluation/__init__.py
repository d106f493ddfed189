"""Findings against truth, by site: numpy in, numbers out, and no number without the failures behind it."""
