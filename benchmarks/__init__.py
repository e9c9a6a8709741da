"""`make bench`: what the promises of speed are measured by. Every figure is a ratio, or stands beside one, of two
things measured in one run."""
