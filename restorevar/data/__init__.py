"""Training and test material: synthetic degradations and how they are mixed."""
