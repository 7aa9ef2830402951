"""Training: a recipe, image and label files in; a checkpoint out."""
