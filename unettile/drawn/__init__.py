"""What was drawn elsewhere: polygons in the files of other programs, and the pixels that lie inside of them."""
