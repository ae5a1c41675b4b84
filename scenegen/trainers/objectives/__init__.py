"""What each network is trained for: one file for each objective."""
