"""Does it fit: what an account may send in 24 hours and in a second, and what it has used.  Pure."""
