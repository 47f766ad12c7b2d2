"""Watch parties: rooms with codes, seats, a chat and reactions."""
