"""Meter what accounts use, exactly, from workers that may be killed and a handler that may be frozen."""
