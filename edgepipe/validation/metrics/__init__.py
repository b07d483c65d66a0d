"""What a metric sees of each sample, and the figure that it makes of many."""
