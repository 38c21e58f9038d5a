"""What rungs use that is no technique of training: threads, and documents packed into rows."""
