"""Small jobs from submission to their end: how many a second, how long one takes, what one costs."""
