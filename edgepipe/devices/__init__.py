"""Boards: an inventory of them, the ways to reach them, and an ARM that needs no board."""
