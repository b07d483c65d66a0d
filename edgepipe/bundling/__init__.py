"""What a board is given: one file with the models, the samples and what is expected of them."""
