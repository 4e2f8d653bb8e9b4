"""What the agent shows of itself: health, status, metrics, a page."""
