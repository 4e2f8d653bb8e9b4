"""Those who ask, those who disturb, and those who judge the answers."""
