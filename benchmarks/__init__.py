"""`make bench`: how fast it is, held to bounds. Every figure is a ratio, or stands beside one, of two
things measured in one run."""
