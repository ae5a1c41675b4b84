"""Object stores by URL: local copies of what is in them, and results back, whole."""
