"""Agreement between a prediction and the truth: by pixel (`pixels`) and by object (`objects`)."""
