"""What is known of each sensor: which pipeline it runs, on which tier, and what a person has set."""
