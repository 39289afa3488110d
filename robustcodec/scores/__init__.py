"""What a number means: scores of a sample, rates, worst cases, intervals."""
