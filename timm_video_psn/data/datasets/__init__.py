"""Which videos a data set has, and what they show."""
