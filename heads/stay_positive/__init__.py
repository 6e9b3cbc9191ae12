"""Stay-Positive: logistic regression with non-negative weights, exact and as published."""
