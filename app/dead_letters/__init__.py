"""Dead letters: what they were, and sending them again."""
