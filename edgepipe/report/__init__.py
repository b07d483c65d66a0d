"""What was asked, done and seen, for machines and for people."""
