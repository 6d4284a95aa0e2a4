"""How many submissions are accepted a second, durably, and what one costs."""
