"""Find the rows of a fine-tuning data set that lie nearest to a model's toxic features."""
