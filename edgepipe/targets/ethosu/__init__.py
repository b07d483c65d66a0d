"""Arm Ethos-U: what Vela is asked, what it answers, and what a file of its making holds."""
