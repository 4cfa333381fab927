"""Step 2: reviews, ratings or a user's own table -> the atomic file of interactions."""
