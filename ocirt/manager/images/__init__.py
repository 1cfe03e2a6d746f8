"""What one does with images that are in the store."""
