"""Results as one HTML page, which needs no network: a view of the JSON that they are stored as."""
