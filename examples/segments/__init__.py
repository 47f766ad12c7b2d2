"""Measurements over time, written in batches, and trends in which every measurement has its weight."""
