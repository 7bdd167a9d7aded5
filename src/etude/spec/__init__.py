"""A study as values: what to train, how, what decides, and which rates, seeds and epochs. No torch at import."""
