"""Limit and report the minutes of a live-subtitling service."""
